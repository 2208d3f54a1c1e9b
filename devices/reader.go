package devices

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"millrace/telemetry"
)

// ReaderPrefix is how each reader token begins.
const ReaderPrefix = "mrr_"

// TokenKey signs reader tokens: what a screen shows to be let in. They carry
// their subject and their end and are checked without a store, so they are
// short-lived and cannot be taken back; a new key makes all of them void.
//
// The form is URL-safe, because EventSource can send no headers:
//
//	mrr_ base64url( version 1 | end, Unix seconds, 8 bytes | subject | HMAC-SHA256, 32 bytes )
type TokenKey [32]byte

const readerVersion = 1

// maxReaderToken bounds what Check decodes.
const maxReaderToken = 1024

// LoadTokenKey reads the key file, or makes it with mode 0600 and a random key
// if there is none. Safe when several processes start at once: one of them makes
// it, all use that one. A file that others may read is refused.
func LoadTokenKey(path string) (TokenKey, error) {
	key, err := readTokenKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := makeTokenKey(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return TokenKey{}, fmt.Errorf("devices: make token key file: %w", err)
	}
	return readTokenKey(path)
}

func readTokenKey(path string) (key TokenKey, err error) {
	status, err := os.Stat(path)
	if err != nil {
		return key, fmt.Errorf("devices: token key file: %w", err)
	}
	if status.Mode().Perm()&0o077 != 0 {
		return key, fmt.Errorf("devices: token key file %s can be read by others (mode %04o): run chmod 600 on it",
			path, status.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return key, fmt.Errorf("devices: token key file: %w", err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(raw) != len(key) {
		return key, fmt.Errorf("devices: token key file %s does not hold 32 bytes in base64: delete it to have a new key made",
			path)
	}
	return TokenKey(raw), nil
}

// makeTokenKey writes a file beside and links it into place: whoever sees the
// name sees the whole key, and an existing file is never replaced.
func makeTokenKey(path string) error {
	var key TokenKey
	_, _ = rand.Read(key[:])                                       // never fails: see crypto/rand
	file, err := os.CreateTemp(filepath.Dir(path), ".token-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(base64.StdEncoding.EncodeToString(key[:]) + "\n")
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Link(file.Name(), path)
}

// Issue makes a reader token for subject that is good until now+ttl.
func (k TokenKey) Issue(subject string, ttl time.Duration, now time.Time) string {
	raw := []byte{readerVersion}
	raw = binary.BigEndian.AppendUint64(raw, uint64(now.Add(ttl).Unix()))
	raw = append(raw, subject...)
	return ReaderPrefix + base64.RawURLEncoding.EncodeToString(k.sign(raw))
}

// Check answers the token's subject. The error wraps
// [telemetry.ErrUnauthorized]: not of this key, changed, or over at now.
func (k TokenKey) Check(token string, now time.Time) (subject string, err error) {
	text, found := strings.CutPrefix(token, ReaderPrefix)
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text[:min(len(text), maxReaderToken)])
	body := len(raw) - sha256.Size
	folded := strings.ContainsAny(token, "\r\n") // which the decoder skips
	if !found || folded || err != nil || body < 9 || !hmac.Equal(raw, k.sign(raw[:body:body])) || raw[0] != readerVersion {
		return "", fmt.Errorf("devices: %w: this is no reader token of this server: ask for a new one", telemetry.ErrUnauthorized)
	}
	end := time.Unix(int64(binary.BigEndian.Uint64(raw[1:9])), 0)
	if !now.Before(end) {
		return "", fmt.Errorf("devices: %w: the reader token ended at %s: ask for a new one",
			telemetry.ErrUnauthorized, end.UTC().Format(time.RFC3339))
	}
	return string(raw[9:body]), nil
}

// sign appends the signature of raw to it.
func (k TokenKey) sign(raw []byte) []byte {
	mac := hmac.New(sha256.New, k[:])
	mac.Write(raw)
	return mac.Sum(raw)
}

// LogValue keeps the key out of logs.
func (TokenKey) LogValue() slog.Value { return slog.StringValue("token key") }

// String keeps the key out of everything that prints.
func (TokenKey) String() string { return "token key" }
