package storage

import "time"

// Events says what the sink and the rollups do. Each callback may be nil, is
// called synchronously, must not block, and may be called concurrently.
type Events struct {
	// Committed: records of one topic are kept, in one transaction.
	Committed func(Batch)
	// Failed: a transaction failed and nothing of it is kept. The consumer comes again.
	Failed func(topic string, err error)
	// Missed: the log had lost records before they could be read.
	Missed func(topic string, partition int32, records int64)
	// Rolled: so many slots of ten minutes were rolled up.
	Rolled func(slots int, took time.Duration)
}

// Batch is what one transaction kept.
type Batch struct {
	Topic      string
	Records    int // = Stored + Duplicates + Dead
	Stored     int // records with a new value and no conflict
	Duplicates int // records with nothing new
	Dead       int // records that became a dead letter
	Values     int // rows added to samples
	Late       int // values that were not newer than their series' newest, looked up one by one
	Took       time.Duration
	Lag        time.Duration // from the receipt of the last record to the commit
}

func (e *Events) committed(b Batch) {
	if e.Committed != nil {
		e.Committed(b)
	}
}

func (e *Events) failed(topic string, err error) {
	if e.Failed != nil {
		e.Failed(topic, err)
	}
}

func (e *Events) missed(topic string, partition int32, records int64) {
	if e.Missed != nil {
		e.Missed(topic, partition, records)
	}
}

func (e *Events) rolled(slots int, took time.Duration) {
	if e.Rolled != nil {
		e.Rolled(slots, took)
	}
}
