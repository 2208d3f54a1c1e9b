package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"millrace/devices"
	"millrace/ingest"
	"millrace/storage"
	"millrace/stream"
	"millrace/telemetry"
	"millrace/telemetry/format"
)

// deadCommand shows what could not be accepted.
type deadCommand struct {
	List  deadList  `cmd:"" help:"List dead letters, the newest first."`
	Show  deadShow  `cmd:"" help:"Show one, with the bytes as they came."`
	Retry deadRetry `cmd:"" help:"Send one again through the gate."`
}

type deadList struct {
	databaseFlags
	Reason    string        `env:"MILLRACE_DEAD_REASON" placeholder:"REASON" enum:",malformed,device,time,limit,denied,topic,conflict,store" default:"" help:"Only this reason: malformed, device, time, limit, denied, topic, conflict, store."`
	Device    string        `env:"MILLRACE_DEAD_DEVICE" placeholder:"NAME" help:"Only this device."`
	Since     time.Duration `placeholder:"1h" help:"Only those received since then."`
	Unretried bool          `help:"Only those never sent again."`
	Limit     int           `default:"50" help:"At most so many."`
}

// Run lists them, with a line of counts.
func (c *deadList) Run(ctx context.Context, t *terminal) error {
	db, err := c.openMigrated(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	filter := storage.DeadFilter{Reason: telemetry.Reason(c.Reason), Device: c.Device, Unretried: c.Unretried, Limit: c.Limit}
	if c.Since > 0 {
		filter.Since = time.Now().Add(-c.Since)
	}
	letters := storage.NewDeadLetters(db)
	list, err := letters.List(ctx, filter)
	if err != nil {
		return err
	}
	counts, err := letters.Count(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(t.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tRECEIVED\tREASON\tDEVICE\tDETAIL")
	for _, l := range list {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", l.ID, moment(l.Received), l.Reason, printable(l.Device), printable(l.Detail))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	var total int64
	words := make([]string, 0, len(counts))
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		total += counts[reason]
		words = append(words, fmt.Sprintf("%s %d", reason, counts[reason]))
	}
	t.printf("%d of %d dead letters (%s)\n", len(list), total, strings.Join(words, ", "))
	return nil
}

// printable is text from a client without what would change a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\ufffd' {
			return '?'
		}
		return r
	}, text)
}

type deadShow struct {
	databaseFlags
	ID  int64 `arg:"" help:"Its number, as in dead list."`
	Raw bool  `help:"Print the original bytes alone."`
}

// Run shows it.
func (c *deadShow) Run(ctx context.Context, t *terminal) error {
	db, err := c.openMigrated(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	l, err := storage.NewDeadLetters(db).Show(ctx, c.ID)
	if err != nil {
		return err
	}
	if c.Raw {
		_, err := t.out.Write(l.Payload)
		return err
	}
	t.printf("id        %d\nreason    %s\ndetail    %s\ndevice    %s\nsource    %s\ntopic     %s\nclient    %s\nreceived  %s\nretried   %s\nplace     %s, partition %d, offset %d\npayload   %d bytes\n%q\n",
		l.ID, l.Reason, printable(l.Detail), printable(l.Device), l.Source, printable(l.Topic), printable(l.Client),
		moment(l.Received), moment(l.Retried), l.LogTopic, l.Position.Partition, l.Position.Offset, len(l.Payload), l.Payload)
	return nil
}

type deadRetry struct {
	databaseFlags
	kafkaFlags
	producerFlags
	ID     int64    `arg:"" help:"Its number, as in dead list."`
	Topic  []string `env:"MILLRACE_DEAD_TOPIC" placeholder:"PATTERN" help:"Further topic patterns that ingest runs with."`
	Form   string   `default:"" placeholder:"FORM" help:"Decode as json, ndjson, senml, line or value; default: what the topic says, else JSON."`
	Device string   `env:"MILLRACE_DEAD_DEVICE" placeholder:"NAME" help:"The device, if neither topic nor payload names it in form."`
}

// Run sends it again. What is refused again stays as it is.
func (c *deadRetry) Run(ctx context.Context, t *terminal) error {
	db, err := c.openMigrated(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	letters := storage.NewDeadLetters(db)
	letter, err := letters.Show(ctx, c.ID)
	if err != nil {
		return err
	}
	message, err := c.message(&letter)
	if err != nil {
		return err
	}
	if err := standing(ctx, db, &letter); err != nil {
		return fmt.Errorf("dead letter %d stays as it is: %w", c.ID, err)
	}
	if len(c.Kafka) == 0 {
		c.Kafka = strings.FieldsFunc(c.find().Kafka, func(r rune) bool { return r == ',' })
	}
	if err := c.send(ctx, message); err != nil {
		return fmt.Errorf("dead letter %d stays as it is: %w", c.ID, err)
	}
	t.printf("Sent dead letter %d again; it was accepted.\n", c.ID)
	return letters.MarkRetried(ctx, c.ID, time.Now())
}

// message is what the letter was, as the gate takes it; the flags say what its
// topic does not, or not rightly.
func (c *deadRetry) message(l *storage.DeadLetter) (ingest.Message, error) {
	patterns, err := ingest.ParsePatterns(append(ingest.DefaultPatterns(), c.Topic...))
	if err != nil {
		return ingest.Message{}, usage("--topic: %v", err)
	}
	m := ingest.Message{Payload: l.Payload, Wait: true, Form: format.JSON} // of the sink: a reading that names its device
	if l.Topic != "" {
		door := telemetry.DeadLetter{Source: l.Source, Topic: l.Topic, Client: l.Client}
		m, err = patterns.Again(&door, l.Payload)
		if err != nil && c.Device == "" {
			return m, fmt.Errorf("dead letter %d stays as it is: %w (--topic, or --device NAME)", l.ID, err)
		}
		if route, ok := patterns.Match(l.Topic); ok && route.Me {
			m.Device = l.Device // who was logged in
		}
	}
	m.Source, m.Publisher = "retry", devices.Principal{Open: true}
	if c.Device != "" {
		m.Device, m.Refused = c.Device, nil
	}
	if c.Form != "" {
		if m.Form, err = format.ParseForm(c.Form); err != nil {
			return m, usage("--%v", err) // it begins with the parameter's name
		}
	}
	return m, nil
}

// standing is why a conflict would be one again: the value said first is still
// in the database. Sent again, it would only be a second dead letter.
func standing(ctx context.Context, db *storage.DB, l *storage.DeadLetter) error {
	var said telemetry.Reading
	if l.Reason != telemetry.ReasonConflict || telemetry.ParseReading(l.Payload, &said) != nil {
		return nil
	}
	span := telemetry.Span{
		After:  telemetry.Cursor{Time: said.Time},
		To:     said.Time.Add(time.Microsecond),
		Filter: telemetry.Filter{Devices: []string{said.Device}},
	}
	var conflict error
	_, err := storage.NewHistory(db).Replay(ctx, l.Log, span, func(stored *telemetry.Reading) error {
		for _, m := range said.Metrics {
			if first, ok := stored.Value(m.Name); ok && !first.Equal(m.Value) {
				conflict = fmt.Errorf("%s of %s at %s is %s in the database, and the first stays",
					m.Name, said.Device, telemetry.AppendTime(nil, said.Time), first.AppendJSON(nil))
			}
		}
		return nil
	})
	return errors.Join(err, conflict)
}

// send passes one message through a gate of our own.
func (c *deadRetry) send(ctx context.Context, m ingest.Message) error {
	if len(c.Kafka) == 0 {
		return need("--kafka", "name Kafka's bootstrap servers")
	}
	log, err := stream.Open(ctx, stream.Config{Brokers: c.Kafka, Prefix: c.KafkaPrefix, Partitions: c.KafkaPartitions})
	if err != nil {
		return err
	}
	defer log.Close()
	producer, err := stream.NewProducer(log, c.config())
	if err != nil {
		return err
	}
	outcome := make(chan ingest.Outcome, 1)
	ingest.NewGate(ingest.Config{Appender: livingOnly{producer}}).Accept(ctx, m, func(o ingest.Outcome) { outcome <- o })
	if err := producer.Close(ctx); err != nil {
		return err
	}
	o := <-outcome
	if o.Err == nil && len(o.Refused) > 0 {
		return fmt.Errorf("%d accepted, %d refused: %w", o.Accepted, len(o.Refused)+o.Omitted, o.Refused[0].Err)
	}
	return o.Err
}

// livingOnly appends readings, and lets dead letters pass as if they had been
// appended: what is refused again is in the table already.
type livingOnly struct{ ingest.Appender }

func (a livingOnly) Append(ctx context.Context, e telemetry.Entry, done func(telemetry.Position, error)) {
	if e.Dead != nil {
		done(telemetry.Position{}, nil)
		return
	}
	a.Appender.Append(ctx, e, done)
}
