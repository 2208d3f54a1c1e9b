package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// beside is what a running 'millrace up' leaves in its data folder, so that
// commands find it without further flags. It holds the database's password
// (mode 0600).
type beside struct {
	PID      int    `json:"pid"`
	HTTP     string `json:"http"`
	MQTT     string `json:"mqtt"`
	Kafka    string `json:"kafka"`
	Postgres string `json:"postgres"`
}

const besideFile = "up.json"

func (f *dataFlag) leave(b beside) error {
	content, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	// A new file and a rename: a reader never sees half of it, and an old file's
	// mode does not stay.
	temporary := f.path(besideFile + ".new")
	if err := os.WriteFile(temporary, append(content, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, f.path(besideFile))
}

// find reads what a running 'millrace up' left; the zero beside if there is none.
func (f *dataFlag) find() beside {
	var b beside
	content, err := os.ReadFile(f.path(besideFile))
	if err == nil {
		_ = json.Unmarshal(content, &b) // an unreadable file is as good as none
	}
	return b
}

// clientFlags say which running millrace a command talks to.
type clientFlags struct {
	dataFlag
	HTTP      string `name:"http" placeholder:"HOST:PORT" help:"Where millrace serves HTTP; default: the 'millrace up' of --data, else 127.0.0.1:8080."`
	Token     string `placeholder:"TOKEN" help:"Token of 'millrace token', where --auth asks for one."`
	TokenFile string `type:"existingfile" placeholder:"FILE" help:"Read the token from this file."`
}

// get asks a running millrace. The caller closes the body.
func (f *clientFlags) get(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	address := f.HTTP
	if address == "" {
		address = f.find().HTTP
	}
	if address == "" {
		address = "127.0.0.1:8080"
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("--http: %q is not host:port", f.HTTP)
	}
	token, err := secret("--token-file", f.Token, f.TokenFile)
	if err != nil {
		return nil, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("no millrace answers at %s: is it running? (--http, --data): %w", address, errors.Unwrap(err))
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		return nil, answered(response)
	}
	return response.Body, nil
}

// answered is the error of an HTTP answer other than 200.
func answered(response *http.Response) error {
	var problem struct{ Title, Detail string }
	body, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if json.Unmarshal(body, &problem) == nil && problem.Title != "" {
		title := strings.ToLower(problem.Title) + ": "
		return errors.New(title + strings.TrimPrefix(problem.Detail, title))
	}
	return fmt.Errorf("answered %s", response.Status)
}

// secret is a flag's value, or the content of the file its -file twin names.
func secret(flag, value, file string) (string, error) {
	if file == "" {
		return value, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return strings.TrimSpace(string(content)), nil
}

// replayCommand prints readings, one a line, in their canonical form.
type replayCommand struct {
	clientFlags
	From   string   `env:"MILLRACE_REPLAY_FROM" required:"" placeholder:"TIME" help:"Where to begin: RFC 3339 (2026-11-21T22:00:00Z), back from now (--from=-24h), or a cursor."`
	To     string   `env:"MILLRACE_REPLAY_TO" placeholder:"TIME" help:"Where to end; without it, go on live until Ctrl-C."`
	Speed  string   `env:"MILLRACE_REPLAY_SPEED" default:"max" placeholder:"1|10|max" help:"Default ${default}. Pace by the readings' own times: 1 as it was, 10 ten times as fast, max at once."`
	Device []string `env:"MILLRACE_REPLAY_DEVICE" placeholder:"GLOB" help:"Only these devices; may stand several times."`
	Metric []string `env:"MILLRACE_REPLAY_METRIC" placeholder:"NAME" help:"Only these metrics."`
	Where  []string `env:"MILLRACE_REPLAY_WHERE" placeholder:"SPEED>80" sep:"none" help:"Only readings that meet the condition."`
	Bbox   string   `env:"MILLRACE_REPLAY_BBOX" placeholder:"MINLON,MINLAT,MAXLON,MAXLAT" help:"Only readings from this part of the map."`
}

// Run follows /v1/stream and prints each reading.
func (c *replayCommand) Run(ctx context.Context, t *terminal) error {
	query := url.Values{"from": {c.From}, "speed": {c.Speed}, "device": c.Device, "metric": c.Metric, "where": c.Where}
	for name, value := range map[string]string{"to": c.To, "bbox": c.Bbox} {
		if value != "" {
			query.Set(name, value)
		}
	}
	body, err := c.get(ctx, "/v1/stream", query)
	if err != nil {
		return err
	}
	defer body.Close()
	printer := printer{out: bufio.NewWriterSize(t.out, 64<<10), terminal: t}
	err = events(body, printer.print)
	if flushed := printer.out.Flush(); flushed != nil {
		return fmt.Errorf("cannot write: %w", flushed)
	}
	if ctx.Err() != nil || errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("the stream broke off: %w", err)
}

// printer prints a stream's readings, many at once until they are live.
type printer struct {
	out      *bufio.Writer
	terminal *terminal
	live     bool
}

func (p *printer) print(event, data string) error {
	switch event {
	case "", "message":
		if _, err := fmt.Fprintln(p.out, data); err != nil || !p.live {
			return err
		}
	case "live":
		p.live = true
	case "end":
		return io.EOF
	case "error", "gap", "skipped":
		p.terminal.tell("millrace replay: %s: %s", event, data)
	}
	return p.out.Flush()
}

// events reads server-sent events until handle answers an error or the stream
// ends; an event's data is given as one text.
func events(r io.Reader, handle func(event, data string) error) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 4<<20)
	event, data, any := "", "", false
	for scanner.Scan() {
		line := scanner.Text()
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && any:
			if err := handle(event, data); err != nil {
				return err
			}
			event, data, any = "", "", false
		case field == "event":
			event = value
		case field == "data":
			data, any = data+value, true
		}
	}
	if err := scanner.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// tokenCommand makes a token for a screen.
type tokenCommand struct {
	dataFlag
	TokenKey string        `placeholder:"FILE" help:"The key that signs; default: DATA/token.key."`
	For      string        `default:"screen" placeholder:"WHO" help:"Who it is for; stands in the token and in logs."`
	TTL      time.Duration `name:"ttl" default:"12h" placeholder:"12h" help:"How long it is valid, at most 720h. Default: ${default}."`
}

// versionCommand prints the version.
type versionCommand struct{}

// Run prints it.
func (versionCommand) Run(t *terminal) error {
	t.printf("millrace %s\n", version)
	return nil
}
