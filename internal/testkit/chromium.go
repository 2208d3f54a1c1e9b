package testkit

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/chromedp/chromedp"
)

// Browser is a page of a Chromium started for this test: a context for
// chromedp's actions. The browser ends with the test. Derive contexts with a
// limit from it for single actions; the browser lives as long as this one.
func Browser(t testing.TB) context.Context {
	t.Helper()
	path, flags := Chromium(t)
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path)}
	for name, value := range flags {
		options = append(options, chromedp.Flag(name, value))
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("close the browser: %v", err)
		}
		cancel()
		stop()
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	return ctx
}

// Chromium is the path of the browser of this machine and the flags with which
// it runs without a screen and without calling anybody, each as a name and a
// value (true, or a string) for chromedp.Flag. Give every browser an empty
// user data folder of its own.
func Chromium(t testing.TB) (path string, flags map[string]any) {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		found, err := exec.LookPath(name)
		if err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("no Chromium is installed: run 'make deps'")
	}
	flags = map[string]any{"user-data-dir": t.TempDir()}
	for _, name := range []string{
		"headless", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
		"disable-component-update", "disable-sync", "disable-default-apps", "disable-extensions",
		"disable-dev-shm-usage", "mute-audio", "hide-scrollbars",
	} {
		flags[name] = true
	}
	if os.Getuid() == 0 {
		flags["no-sandbox"] = true // Chromium's sandbox refuses root
	}
	return path, flags
}
