// Package stream is the log: two Kafka topics, a producer that appends to them,
// a group consumer that hands what stands there to a [Handler], and a reader
// that follows a topic from any cursor.
//
//	Entry ──Append──▶ Producer ──acks=all──▶ <prefix>.readings ──▶ Consumer ──▶ Handler (sink)
//	                     │                   <prefix>.dead     ──▶ Follow   ──▶ hub, replay
//	                     └──done(Position)
//
// Its invariant: done(position, nil) is called only when Kafka has acknowledged
// the record with acks=all, and all entries of one device stand in one
// partition in the order in which they were appended, none twice. Every done
// is called exactly once, whatever happens.
//
// # What stands in Kafka
//
// The key is the device; the partition is Kafka's own murmur2 of the key, so
// that every client computes the same one. The value of <prefix>.readings is
// the reading's canonical JSON, that of <prefix>.dead the original bytes. Both
// carry the header rx, the time of receipt as RFC 3339 in UTC with six digits
// of a second (2026-11-21T22:00:00.123456Z); the record's own timestamp is the
// same instant in whole milliseconds. Dead letters carry reason, detail,
// source, topic and client too.
package stream
