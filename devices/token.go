package devices

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// TokenPrefix is how each device's token begins, so that scanners for leaked
// secrets know one when they see it.
const TokenPrefix = "mrd_"

// tokenBytes is 256 bits: beyond guessing, which is why SHA-256 without salt and
// stretching is enough to store it.
const tokenBytes = 32

// newToken makes a token: the prefix and 43 characters of base64url.
func newToken() string {
	var secret [tokenBytes]byte
	_, _ = rand.Read(secret[:]) // never fails: see crypto/rand
	return TokenPrefix + base64.RawURLEncoding.EncodeToString(secret[:])
}

// tokenHash is what is stored of a token.
func tokenHash(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }

// tokenShaped says whether text has the form of a token, so that it may be one.
func tokenShaped(text string) bool {
	secret, found := strings.CutPrefix(text, TokenPrefix)
	if !found || len(secret) != base64.RawURLEncoding.EncodedLen(tokenBytes) {
		return false
	}
	_, err := base64.RawURLEncoding.DecodeString(secret)
	return err == nil
}
