// Package embedded is a Kafka-protocol broker inside this process, with its
// log on disk: for a laptop, a gateway, a first try. It is franz-go's kfake, a
// broker made for tests, with guards around it; one copy on one machine.
// Production points at Kafka.
//
//	clients ──Kafka protocol──▶ guard ──▶ kfake ──▶ DIR/partitions/<topic>-<n>/<base>.dat
//	                              │                    ▲
//	             free space, failed writes        retention: whole segments, oldest first
//
// Its invariant: what it acknowledged is on disk, as long as the disk keeps
// what it says it has kept; and no offset of a topic is ever given twice.
package embedded
