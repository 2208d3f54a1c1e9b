package bridge

import (
	"testing"

	"millrace/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }
