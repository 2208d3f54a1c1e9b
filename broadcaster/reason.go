package broadcaster

// Reason says why a client's connection ends. Its number is the WebSocket close
// code (RFC 6455 section 7.4), its name the label in metrics: one vocabulary.
type Reason uint16

// The reasons there are.
const (
	Left     Reason = 1000 // the client said goodbye, or its only subscription ended
	Stopping Reason = 1001 // this instance stops; resume elsewhere with the cursor
	Protocol Reason = 1002 // the client does not speak the protocol
	NotText  Reason = 1003 // a binary message, or a text that is not UTF-8
	Broken   Reason = 1006 // the connection broke; never sent
	TooLarge Reason = 1009 // a message over Limits.Message
	Internal Reason = 1011 // a failure on our side
	Stalled  Reason = 4000 // took nothing for Limits.Stall
	Silent   Reason = 4001 // no answer to pings
	Flooding Reason = 4002 // pings or operations faster than their answers are read
)

// Name is the reason in one word, for metrics and logs.
func (r Reason) Name() string {
	name, _ := r.words()
	return name
}

// Text is the reason in a sentence, for the client.
func (r Reason) Text() string {
	_, text := r.words()
	return text
}

func (r Reason) words() (name, text string) {
	switch r {
	case Left:
		return "left", "goodbye"
	case Stopping:
		return "stopping", "this instance stops: connect again with the last cursor"
	case Protocol:
		return "protocol", "not the WebSocket protocol"
	case NotText:
		return "not-text", "messages are JSON text in UTF-8"
	case Broken:
		return "broken", "the connection broke"
	case TooLarge:
		return "too-large", "the message is larger than the limit"
	case Stalled:
		return "stalled", "nothing was read for too long: connect again with the last cursor"
	case Silent:
		return "silent", "no answer to pings"
	case Flooding:
		return "flooding", "messages come faster than their answers are read"
	}
	return "internal", "a failure on our side"
}
