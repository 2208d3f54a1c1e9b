package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	fetcher "github.com/fergusstrange/embedded-postgres"
)

// oldest is the oldest PostgreSQL whose SQL the migrations are written for.
const oldest = 14

// install is a PostgreSQL on this machine.
type install struct {
	bin   string // folder with postgres and initdb
	major int
}

// fetchable are the versions that can be had, by major version; the newest is
// what a new database gets where the machine has none.
func fetchable() map[int]fetcher.PostgresVersion {
	return map[int]fetcher.PostgresVersion{
		14: fetcher.V14, 15: fetcher.V15, 16: fetcher.V16, 17: fetcher.V17, 18: fetcher.V18,
	}
}

const newestFetchable = 18

// findInstall picks the binaries: those named, else the machine's, else
// fetched ones; of the version that an existing database needs, else the newest.
func (s *Server) findInstall(ctx context.Context) (install, error) {
	need, err := dataVersion(s.dir)
	if err != nil {
		return install{}, err
	}
	if s.config.Binaries != "" {
		return s.named(ctx, need)
	}
	var found []install
	for _, bin := range binaryFolders() {
		i, err := inspect(ctx, bin)
		if err == nil && i.major >= oldest && (s.owner.us || s.owner.reaches(filepath.Join(bin, "postgres"))) {
			found = append(found, i)
		}
	}
	if err := ctx.Err(); err != nil {
		return install{}, err // nobody was asked: that is no machine without PostgreSQL
	}
	slices.SortStableFunc(found, func(a, b install) int { return b.major - a.major })
	for _, i := range found {
		if need == 0 || i.major == need {
			return i, nil
		}
	}
	return s.fetch(ctx, need)
}

// named is what --postgres-binaries says.
func (s *Server) named(ctx context.Context, need int) (install, error) {
	i, err := inspect(ctx, s.config.Binaries)
	if err != nil {
		return i, fmt.Errorf("--postgres-binaries %s: %w", s.config.Binaries, err)
	}
	if i.major < oldest {
		return i, fmt.Errorf("--postgres-binaries %s is PostgreSQL %d: %d or newer is needed", i.bin, i.major, oldest)
	}
	if need != 0 && need != i.major {
		return i, fmt.Errorf("the database %s was made by PostgreSQL %d and %s is version %d: name binaries of version %d, "+
			"or move the data over with pg_upgrade, or start empty with another --data", s.dir, need, i.bin, i.major, need)
	}
	if !s.owner.us && !s.owner.reaches(filepath.Join(i.bin, "postgres")) {
		return i, fmt.Errorf("user %s cannot reach the binaries in %s: put them where it can, "+
			"or name another user with --postgres-user", s.owner.name, i.bin)
	}
	return i, nil
}

// dataVersion is the major version of an existing database, 0 if there is none.
func dataVersion(dir string) (int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var major int
	if _, err := fmt.Sscanf(string(b), "%d", &major); err != nil {
		return 0, fmt.Errorf("%s does not tell a version of PostgreSQL: is it a database?", filepath.Join(dir, "PG_VERSION"))
	}
	return major, nil
}

// binaryFolders are the folders where this machine may have a server.
func binaryFolders() []string {
	folders := []string{}
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		folders = append(folders, filepath.Dir(path))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
		"/usr/pgsql-*/bin",                  // the PostgreSQL project's RPMs
		"/usr/libexec/postgresql*",          // Alpine
		"/opt/homebrew/opt/postgresql*/bin", // Homebrew on ARM
		"/usr/local/opt/postgresql*/bin",    // Homebrew on Intel
		"/usr/local/pgsql/bin",              // built from source
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			panic("impossible, because the patterns are constants: " + err.Error())
		}
		folders = append(folders, found...)
	}
	return folders
}

// versionPattern reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)".
const versionPattern = `\(PostgreSQL\) (\d+)`

// inspect tells what PostgreSQL stands in a folder.
func inspect(ctx context.Context, bin string) (install, error) {
	if _, err := os.Stat(filepath.Join(bin, "initdb")); err != nil {
		return install{}, fmt.Errorf("no server is there: %w", err)
	}
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err() // "signal: killed" does not tell who did it
		}
		return install{}, fmt.Errorf("ask postgres for its version: %w", err)
	}
	m := regexp.MustCompile(versionPattern).FindSubmatch(out)
	if m == nil {
		return install{}, fmt.Errorf("postgres says its version is %q", out)
	}
	major, err := strconv.Atoi(string(m[1]))
	return install{bin: bin, major: major}, err
}

// cache is the folder for fetched binaries: where all databases of this user
// find them, and under root where the server's user can go.
func (s *Server) cache() string {
	if !s.owner.us {
		return s.config.Elsewhere
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "millrace")
	}
	return filepath.Dir(s.config.Dir)
}

// fetch brings the binaries of a major version, once; need 0 is the newest.
func (s *Server) fetch(ctx context.Context, need int) (install, error) {
	major := need
	if major == 0 {
		major = newestFetchable
	}
	version, ok := fetchable()[major]
	if !ok {
		return install{}, fmt.Errorf("the database %s was made by PostgreSQL %d, which this machine does not have: "+
			"install that version or name its folder with --postgres-binaries, or start empty with another --data", s.dir, need)
	}
	folder := filepath.Join(s.cache(), "postgresql-"+string(version))
	if i, err := inspect(ctx, filepath.Join(folder, "bin")); err == nil {
		return i, nil // fetched before
	}
	if err := ctx.Err(); err != nil {
		return install{}, err // unpack could not be called back
	}
	if err := openFolder(s.cache()); err != nil {
		return install{}, err
	}
	fetched := make(chan error, 1)
	go func() { fetched <- unpack(folder, version, s.config.Mirror) }() // ends by itself: the fetcher takes no context
	if err := s.await(ctx, fetched, "fetching PostgreSQL "+string(version)+", once"); err != nil {
		if ctx.Err() != nil {
			return install{}, ctx.Err()
		}
		return install{}, fmt.Errorf("this machine has no PostgreSQL and fetching version %s failed: install one (Debian: apt-get install postgresql), "+
			"name its folder with --postgres-binaries, or name a running database with --postgres: %w", version, err)
	}
	return inspect(ctx, filepath.Join(folder, "bin"))
}

// Folders that unpack works in are named fetchPrefix and a number. One this old
// is nobody's any more.
const (
	fetchPrefix   = "fetch-"
	fetchOutdated = time.Hour
)

// sweep removes what fetches left behind whose process ended in the middle.
func (s *Server) sweep(now time.Time) {
	entries, err := os.ReadDir(s.cache())
	if err != nil {
		return // usually there is none
	}
	for _, e := range entries {
		number, ours := strings.CutPrefix(e.Name(), fetchPrefix)
		if _, err := strconv.ParseUint(number, 10, 64); err != nil || !ours || !e.IsDir() {
			continue
		}
		info, err := e.Info()
		if err != nil || now.Sub(info.ModTime()) < fetchOutdated {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.cache(), e.Name())); err != nil {
			s.config.Log.Warn("what a fetch left behind cannot be removed", "error", err)
		}
	}
}

// await waits for done and tells every few seconds that it still does.
func (s *Server) await(ctx context.Context, done <-chan error, what string) error {
	s.config.Progress(what)
	began := time.Now()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			s.config.Progress(fmt.Sprintf("%s: %d s", what, int(time.Since(began).Seconds())))
		}
	}
}

// unpack fetches a version into folder, whole or not at all.
//
// The fetcher can only start servers, and does that as its own process's user,
// which PostgreSQL refuses to root. Its Start fetches and unpacks before it
// empties the data folder; a data folder named "." cannot be emptied, so Start
// ends there, under every user, with the binaries in place and nothing run.
func unpack(folder string, version fetcher.PostgresVersion, mirror string) error {
	work, err := os.MkdirTemp(filepath.Dir(folder), fetchPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	binaries := filepath.Join(work, "binaries")
	config := fetcher.DefaultConfig().Version(version).Port(0).Logger(nil).
		CachePath(filepath.Join(work, "archive")).BinariesPath(binaries).
		RuntimePath(filepath.Join(work, "runtime")).DataPath(filepath.Join(work, "runtime") + "/.")
	if mirror != "" {
		config = config.BinaryRepositoryURL(mirror)
	}
	failure := fetcher.NewDatabase(config).Start()
	http.DefaultClient.CloseIdleConnections() // the fetcher's; nothing here uses them again
	if _, err := os.Stat(filepath.Join(binaries, "bin", "initdb")); err != nil {
		return failure
	}
	if err := letAllRead(binaries); err != nil {
		return err
	}
	err = os.Rename(binaries, folder)
	if errors.Is(err, fs.ErrExist) {
		return nil // another process was quicker
	}
	return err
}

// letAllRead lets every user run what was unpacked, whatever the umask.
func letAllRead(folder string) error {
	return filepath.WalkDir(folder, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink != 0 {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if entry.IsDir() || mode&0o100 != 0 {
			mode |= 0o111
		}
		return os.Chmod(name, mode)
	})
}
