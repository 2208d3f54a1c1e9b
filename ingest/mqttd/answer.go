package mqttd

import (
	"errors"

	"millrace/ingest"
	"millrace/telemetry"

	"github.com/mochi-mqtt/server/v2/packets"
)

// answer is what an acknowledgement says to an MQTT 5 client. The zero answer
// is success.
type answer struct {
	code byte
	text string
}

// refusalCodes says how MQTT 5 names a reason. A limit is 0x97, "an imposed
// limit has been exceeded": 0x95 (packet too large) has no place in a PUBACK
// (MQTT 5 table 3-4) and stands in the DISCONNECT for such a packet.
var refusalCodes = map[telemetry.Reason]byte{
	telemetry.ReasonLimit:  packets.ErrQuotaExceeded.Code,
	telemetry.ReasonDenied: packets.ErrNotAuthorized.Code,
	telemetry.ReasonTopic:  packets.ErrTopicNameInvalid.Code,
}

// answerTo is what to tell the publisher of a message. A message of which
// something was accepted is a success. One that was refused altogether gets the
// first refusal's code; it is kept as a dead letter, so the client need not and
// should not send it again.
func answerTo(o ingest.Outcome) answer {
	if o.Accepted > 0 || len(o.Refused) == 0 {
		return answer{}
	}
	refusal := o.Refused[0].Err
	code, ok := refusalCodes[refusal.Reason]
	if !ok {
		code = packets.ErrPayloadFormatInvalid.Code
	}
	return answer{code: code, text: clip(refusal.Detail)}
}

// failureCode is the DISCONNECT that tells an MQTT 5 client why its message was
// not acknowledged: it keeps the message and sends it again.
func failureCode(err error) packets.Code {
	switch {
	case errors.Is(err, telemetry.ErrOverloaded):
		return packets.Code{Code: packets.ErrQuotaExceeded.Code, Reason: "the log has no room now; connect and send again"}
	case errors.Is(err, telemetry.ErrClosed):
		return packets.Code{Code: packets.ErrServerShuttingDown.Code, Reason: "shutting down; connect and send again"}
	}
	return packets.Code{Code: packets.ErrServerBusy.Code, Reason: "the log did not take the message; connect and send again"}
}

// loginCode is the CONNACK for a login that failed.
func loginCode(err error) packets.Code {
	switch {
	case errors.Is(err, telemetry.ErrUnauthorized):
		return packets.ErrBadUsernameOrPassword
	case errors.Is(err, telemetry.ErrForbidden):
		return packets.ErrNotAuthorized
	}
	return packets.ErrServerUnavailable
}
