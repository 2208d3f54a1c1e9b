package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"millrace/storage"
	"millrace/stream"
	"millrace/telemetry"
)

// board answers GET /v1/status from what the roles have put on it.
type board struct {
	started     time.Time
	roles       []string
	kafka       *stream.Log
	database    *storage.DB
	connections func() int // MQTT clients
	devices     func() int // that have a latest value
}

// status is the answer.
type status struct {
	Version         string                     `json:"version"`
	Roles           []string                   `json:"roles"`
	Started         time.Time                  `json:"started"`
	MQTTConnections *int                       `json:"mqtt_connections,omitempty"`
	Devices         *int                       `json:"devices,omitempty"`
	Log             []partition                `json:"log,omitempty"`
	Layout          storage.Layout             `json:"layout,omitempty"`
	DeadLetters     map[telemetry.Reason]int64 `json:"dead_letters,omitempty"`
	Problems        []string                   `json:"problems,omitempty"`
}

// partition is how far the log is, and the database behind it.
type partition struct {
	Partition  int    `json:"partition"`
	First      int64  `json:"first"`
	Next       int64  `json:"next"`
	StoredNext *int64 `json:"stored_next,omitempty"`
}

const statusTimeout = 5 * time.Second

func (b *board) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), statusTimeout)
		defer cancel()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(b.status(ctx))
	})
}

func (b *board) status(ctx context.Context) status {
	s := status{Version: version, Roles: b.roles, Started: b.started.UTC()}
	if b.connections != nil {
		s.MQTTConnections = new(b.connections())
	}
	if b.devices != nil {
		s.Devices = new(b.devices())
	}
	var log uint64
	if b.kafka != nil {
		first, next, err := b.kafka.Readings().Bounds(ctx)
		s.problem(err)
		for i := range next.Next {
			s.Log = append(s.Log, partition{Partition: i, First: first.Next[i], Next: next.Next[i]})
		}
		log = next.Log
	}
	if b.database != nil && b.database.Layout() != "" {
		s.Layout = b.database.Layout()
		stored, err := b.database.Stored(ctx, log)
		s.problem(err)
		for i := range s.Log {
			if next, ok := stored[int32(i)]; ok {
				s.Log[i].StoredNext = &next
			}
		}
		s.DeadLetters, err = storage.NewDeadLetters(b.database).Count(ctx)
		s.problem(err)
	}
	return s
}

func (s *status) problem(err error) {
	if err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
}

// statusCommand shows what a running millrace does.
type statusCommand struct {
	clientFlags
	JSON        bool `name:"json" help:"As JSON."`
	PostgresURL bool `name:"postgres-url" help:"Print the URL of the database of the 'millrace up' of --data, password included, and nothing else."`
}

// Run shows it.
func (c *statusCommand) Run(ctx context.Context, t *terminal) error {
	if c.PostgresURL {
		url := c.find().Postgres
		if url == "" {
			return usage("--data: %s has no running 'millrace up'", c.Data)
		}
		t.printf("%s\n", url)
		return nil
	}
	body, err := c.get(ctx, "/v1/status", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	var s status
	if err := json.NewDecoder(body).Decode(&s); err != nil {
		return fmt.Errorf("the answer is not a status: %w", err)
	}
	if c.JSON {
		encoder := json.NewEncoder(t.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(s)
	}
	return s.print(t)
}

func (s *status) print(t *terminal) error {
	t.printf("millrace %s: %s, for %s\n", s.Version, strings.Join(s.Roles, ", "), time.Since(s.Started).Round(time.Second))
	if s.MQTTConnections != nil {
		t.printf("%d MQTT connections\n", *s.MQTTConnections)
	}
	if s.Devices != nil {
		t.printf("%d devices have spoken\n", *s.Devices)
	}
	if len(s.Log) > 0 {
		table := tabwriter.NewWriter(t.out, 0, 4, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(table, "partition\trecords in the log\tnext\tnot stored yet\t")
		for _, p := range s.Log {
			behind := "unknown"
			if p.StoredNext != nil {
				behind = fmt.Sprint(p.Next - *p.StoredNext)
			}
			fmt.Fprintf(table, "%d\t%d\t%d\t%s\t\n", p.Partition, p.Next-p.First, p.Next, behind)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(s.DeadLetters)) {
		t.printf("%d dead letters: %s\n", s.DeadLetters[reason], reason)
	}
	for _, problem := range s.Problems {
		t.printf("problem: %s\n", problem)
	}
	return nil
}
