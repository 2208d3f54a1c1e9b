package devices_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/devices"
	"millrace/telemetry"
)

func TestReaderTokens(t *testing.T) {
	key, other := devices.TokenKey{1}, devices.TokenKey{2}
	now := time.Date(2026, 11, 21, 22, 0, 0, 0, time.UTC)
	token := key.Issue("screen 1", time.Minute, now)
	if url.QueryEscape(token) != token || !strings.HasPrefix(token, devices.ReaderPrefix) {
		t.Errorf("%s is not for an address", token)
	}
	f := func(k devices.TokenKey, token string, at time.Time, good bool) {
		t.Helper()
		subject, err := k.Check(token, at)
		if good && (err != nil || subject != "screen 1") || !good && !errors.Is(err, telemetry.ErrUnauthorized) {
			t.Errorf("%s at %s: %q, %v", token, at, subject, err)
		}
	}
	f(key, token, now, true)
	f(key, token, now.Add(59*time.Second), true)
	f(key, token, now.Add(time.Minute), false)
	f(other, token, now, false)
	f(key, "", now, false)
	f(key, devices.ReaderPrefix, now, false)
	f(key, strings.TrimPrefix(token, devices.ReaderPrefix), now, false)
	f(key, token+"A", now, false)
	f(key, token+strings.Repeat("A", 1<<20), now, false)
	for i := range token {
		changed := []byte(token)
		changed[i] ^= 1
		f(key, string(changed), now, false)
	}
	if text := fmt.Sprintf("%v %s", key, key); strings.Contains(text, "1") {
		t.Errorf("a printed key is %s", text)
	}
}

func TestTokenKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.key")
	keys := make([]devices.TokenKey, 8)
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			key, err := devices.LoadTokenKey(path)
			if err != nil {
				t.Error(err)
			}
			keys[i] = key
		})
	}
	all.Wait()
	for _, key := range keys {
		if key != keys[0] || key == (devices.TokenKey{}) {
			t.Error("processes that start at once have different keys")
		}
	}
	status, err := os.Stat(path)
	if err != nil || status.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", status.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".token*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	f := func(text string, mode os.FileMode, want string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		if _, err := devices.LoadTokenKey(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want one with %q", err, want)
		}
	}
	f("", 0o644, "chmod 600")
	f("", 0o600, "does not hold 32 bytes")
	f("c2hvcnQ=", 0o600, "does not hold 32 bytes")
	if _, err := devices.LoadTokenKey(filepath.Join(t.TempDir(), "absent", "token.key")); err == nil {
		t.Error("a key in no folder")
	}
}

// Whatever comes as a token, Check answers and lets nothing forged in.
func FuzzCheck(f *testing.F) {
	key := devices.TokenKey{1}
	now := time.Date(2026, 11, 21, 22, 0, 0, 0, time.UTC)
	good := key.Issue("a", time.Hour, now)
	f.Add(good)
	f.Add(devices.ReaderPrefix + "AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := key.Check(token, now); err == nil && token != good {
			t.Errorf("%q was let in", token)
		}
	})
}
