package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"millrace/storage"
	"millrace/stream"
)

// verifyCommand compares log and database.
type verifyCommand struct {
	databaseFlags
	kafkaFlags
}

// Run prints a line a partition and what is wrong; it fails if anything is.
func (c *verifyCommand) Run(ctx context.Context, t *terminal) error {
	db, err := c.openMigrated(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if len(c.Kafka) == 0 {
		c.Kafka = strings.FieldsFunc(c.find().Kafka, func(r rune) bool { return r == ',' })
	}
	if len(c.Kafka) == 0 {
		return need("--kafka", "name Kafka's bootstrap servers")
	}
	log, err := stream.Open(ctx, stream.Config{Brokers: c.Kafka, Prefix: c.KafkaPrefix, Partitions: c.KafkaPartitions})
	if err != nil {
		return err
	}
	defer log.Close()
	return c.compare(ctx, t, db, log)
}

var errDisagree = errors.New("log and database do not agree; the lines above say where")

func (c *verifyCommand) compare(ctx context.Context, t *terminal, db *storage.DB, log *stream.Log) error {
	told := time.Now()
	report, err := storage.Verify(ctx, db, []storage.Topic{
		{Name: log.Readings().Name(), Log: log.Readings()},
		{Name: log.Dead().Name(), Log: log.Dead(), Dead: true},
	}, func(p storage.Progress) {
		if now := time.Now(); now.Sub(told) >= 2*time.Second {
			told = now
			t.tell("millrace verify: %s: %d of %d records compared", p.Topic, p.Done, p.Total)
		}
	})
	if err != nil {
		return err
	}
	return show(t, report)
}

// show prints a line a partition, what is wrong, and the sum.
func show(t *terminal, report *storage.Report) error {
	table := tabwriter.NewWriter(t.out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "topic\tpartition\trecords\tstored\tduplicates\tdead\tmissed\tnot stored yet\tcompared\t\t")
	var sum storage.PartitionReport
	for _, p := range report.Partitions {
		verdict := "ok"
		if len(p.Wrong) > 0 {
			verdict = strings.Join(p.Wrong, "; ")
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t  %s\t\n",
			p.Topic, p.Partition, p.Records, p.Stored, p.Duplicates, p.Dead, p.Missed, p.Behind, p.Checked, verdict)
		sum.Records += p.Records
		sum.Stored += p.Stored
		sum.Duplicates += p.Duplicates
		sum.Dead += p.Dead
		sum.Behind += p.Behind
		sum.Checked += p.Checked
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, example := range report.Examples {
		t.printf("wrong: %s\n", example)
	}
	t.printf("%d records = %d stored + %d duplicates + %d dead letters; %d of them compared one by one, %d more not stored yet\n",
		sum.Records, sum.Stored, sum.Duplicates, sum.Dead, sum.Checked, sum.Behind)
	if !report.OK() {
		return errDisagree
	}
	t.printf("Log and database agree.\n")
	return nil
}
