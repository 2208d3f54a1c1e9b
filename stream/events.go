package stream

import "time"

// Events are told what happens; a nil field is not called. They are called
// from the package's own goroutines, must be safe for concurrent use and must
// not block.
type Events struct {
	// Appended: an append has ended. took is from Append to its end; err is
	// what done was told.
	Appended func(topic string, bytes int, took time.Duration, err error)
	// Claimed: after a rebalance the consumer holds this many partitions.
	Claimed func(topic, group string, partitions int)
	// Handled: a batch was handled; took is the handler's time for the try
	// that succeeded.
	Handled func(topic, group string, records int, took time.Duration)
	// Lag: how many records the partition had beyond the last one handed over,
	// when they were fetched.
	Lag func(topic, group string, partition int32, records int64)
	// Retried: the handler (or the group) failed and is asked again.
	Retried func(topic, group string, err error)
	// Skipped: retention has removed records that the handler had not seen.
	Skipped func(topic, group string, partition int32, records int64)
}

func (e *Events) appended(topic string, bytes int, took time.Duration, err error) {
	if e.Appended != nil {
		e.Appended(topic, bytes, took, err)
	}
}

func (e *Events) claimed(topic, group string, partitions int) {
	if e.Claimed != nil {
		e.Claimed(topic, group, partitions)
	}
}

func (e *Events) handled(topic, group string, records int, took time.Duration) {
	if e.Handled != nil {
		e.Handled(topic, group, records, took)
	}
}

func (e *Events) lag(topic, group string, partition int32, records int64) {
	if e.Lag != nil {
		e.Lag(topic, group, partition, records)
	}
}

func (e *Events) retried(topic, group string, err error) {
	if e.Retried != nil {
		e.Retried(topic, group, err)
	}
}

func (e *Events) skipped(topic, group string, partition int32, records int64) {
	if e.Skipped != nil {
		e.Skipped(topic, group, partition, records)
	}
}
