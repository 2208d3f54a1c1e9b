package stream

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Compression of what a producer writes.
type Compression string

// The compressions there are. Every client reads None and Gzip; some of the
// common ones cannot read the others (see docs/adr/0003-compression.md).
const (
	None   Compression = "none"
	Gzip   Compression = "gzip"
	Snappy Compression = "snappy"
	LZ4    Compression = "lz4"
	Zstd   Compression = "zstd"
)

func (c Compression) codec() (kgo.CompressionCodec, error) {
	switch c {
	case None, "":
		return kgo.NoCompression(), nil
	case Gzip:
		// Level 1: the higher ones cost several times the CPU for a few per cent.
		return kgo.GzipCompression().WithLevel(1), nil
	case Snappy:
		return kgo.SnappyCompression(), nil
	case LZ4:
		return kgo.Lz4Compression(), nil
	case Zstd:
		return kgo.ZstdCompression(), nil
	}
	return kgo.NoCompression(), fmt.Errorf("compression %q: use none, gzip, snappy, lz4 or zstd", string(c))
}
