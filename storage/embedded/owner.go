package embedded

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// owner is who runs the server and owns its files.
type owner struct {
	name string
	uid  uint32
	gid  uint32
	us   bool // it is this process's own user
}

// credential for commands run as the owner; nil when that is this process.
func (o owner) credential() *syscall.Credential {
	if o.us {
		return nil
	}
	return &syscall.Credential{Uid: o.uid, Gid: o.gid}
}

// ownerOf decides who runs the server. An existing database decides first,
// because PostgreSQL accepts only files of its own user.
func ownerOf(config Config) (owner, error) {
	if os.Getuid() != 0 {
		return ourselves(config)
	}
	kept, err := keptOwner(config.Dir)
	if err != nil {
		return owner{}, err
	}
	candidates := []string{"postgres", "millrace", "nobody"}
	switch {
	case config.User != "" && kept.uid != 0 && config.User != kept.name:
		return owner{}, fmt.Errorf("the database %s belongs to user %s: leave out --postgres-user %s, or give the files to that user first",
			config.Dir, kept.name, config.User)
	case kept.uid != 0: // root's own is an empty folder
		return kept, nil
	case config.User != "":
		candidates = []string{config.User}
	}
	for _, name := range candidates {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		o, err := asOwner(u)
		if err == nil && o.uid == 0 {
			return o, fmt.Errorf("--postgres-user %s is root, and PostgreSQL refuses root: name another user", name)
		}
		return o, err
	}
	return owner{}, fmt.Errorf("PostgreSQL refuses root, and there is no user %s on this machine: "+
		"name another with --postgres-user", strings.Join(candidates, " or "))
}

func ourselves(config Config) (owner, error) {
	o := owner{uid: uint32(os.Getuid()), gid: uint32(os.Getgid()), us: true, name: strconv.Itoa(os.Getuid())}
	if u, err := user.Current(); err == nil {
		o.name = u.Username // a user without a name may run it too
	}
	if config.User != "" && config.User != o.name {
		return o, fmt.Errorf("--postgres-user %s needs root; this is %s: leave the flag out", config.User, o.name)
	}
	kept, err := keptOwner(config.Dir)
	if err == nil && kept.name != "" && kept.uid != o.uid {
		err = fmt.Errorf("the database %s belongs to user %s and this is %s: "+
			"start as that user or as root, or choose another data folder with --data", config.Dir, kept.name, o.name)
	}
	return o, err
}

// keptOwner is the owner of the database if there is one; no name if not.
func keptOwner(dir string) (owner, error) {
	where, err := readNote(dir)
	if err != nil {
		return owner{}, err
	}
	info, err := os.Stat(where)
	if err != nil {
		return owner{}, nil // none yet
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return owner{}, nil
	}
	o := owner{name: strconv.Itoa(int(stat.Uid)), uid: stat.Uid, gid: stat.Gid}
	if u, err := user.LookupId(o.name); err == nil {
		o.name = u.Username
	}
	return o, nil
}

func asOwner(u *user.User) (owner, error) {
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return owner{name: u.Username, uid: uint32(uid), gid: uint32(gid)}, errors.Join(err1, err2)
}

// reaches tells whether the owner can go to path: through every folder above
// it. Access lists beyond mode bits are not looked at; then the answer may be
// no where it could be yes.
func (o owner) reaches(path string) bool {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || !o.mayEnter(info) {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

func (o owner) mayEnter(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	switch {
	case stat.Uid == o.uid:
		return info.Mode().Perm()&0o100 != 0
	case stat.Gid == o.gid:
		return info.Mode().Perm()&0o010 != 0
	}
	return info.Mode().Perm()&0o001 != 0
}

// noteName is the file beside Config.Dir that says where the database is when
// it is not there.
func noteName(dir string) string { return dir + ".place" }

// readNote answers where the database of dir is: dir, unless a note says else.
func readNote(dir string) (string, error) {
	b, err := os.ReadFile(noteName(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return dir, nil
	}
	if err != nil {
		return "", err
	}
	where := strings.TrimSpace(string(b))
	if !filepath.IsAbs(where) {
		return "", fmt.Errorf("the note %s does not name a folder: write the path of the database into it, or remove it to start with an empty one", noteName(dir))
	}
	return where, nil
}

// settle finds the place of the database, and makes one up the first time.
func settle(config Config, who owner) (string, error) {
	where, err := readNote(config.Dir)
	if err != nil {
		return "", err
	}
	if where == config.Dir && (who.us || who.reaches(where)) {
		return where, nil
	}
	if where != config.Dir {
		config.Progress(fmt.Sprintf("the database is in %s, as %s says", where, noteName(config.Dir)))
	} else if where, err = elsewhere(config); err != nil {
		return "", err
	} else {
		config.Progress(fmt.Sprintf("user %s cannot reach %s: the database goes to %s", who.name, filepath.Dir(config.Dir), where))
	}
	if _, err := os.Stat(filepath.Dir(where)); err != nil {
		return "", fmt.Errorf("the database is gone from where %s says: bring it back, or remove that file to start with an empty one: %w",
			noteName(config.Dir), err)
	}
	if !who.us && !who.reaches(where) {
		return "", fmt.Errorf("user %s cannot reach %s, where the database is to be: "+
			"let others enter the folders above it, or name another user with --postgres-user", who.name, where)
	}
	return where, nil
}

// elsewhere writes a note of a new folder. Its name is random: a data folder
// that was removed and made again starts with an empty database.
func elsewhere(config Config) (string, error) {
	var id [6]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	where := filepath.Join(config.Elsewhere, hex.EncodeToString(id[:]), "postgres")
	if err := openFolder(config.Elsewhere, filepath.Dir(where)); err != nil {
		return "", err
	}
	origin := "This database belongs to the data folder " + filepath.Dir(config.Dir) + ".\n"
	if err := os.WriteFile(filepath.Join(filepath.Dir(where), "README"), []byte(origin), 0o644); err != nil {
		return "", err
	}
	return where, writeFile(noteName(config.Dir), where+"\n", 0o644)
}

// openFolder makes folders of ours that others may enter, whatever the umask.
func openFolder(names ...string) error {
	for _, name := range names {
		if err := os.MkdirAll(name, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(name, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file whole or not at all.
func writeFile(name, content string, mode fs.FileMode) error {
	part := name + ".part"
	if err := os.WriteFile(part, []byte(content), mode); err != nil {
		return err
	}
	if err := os.Chmod(part, mode); err != nil { // it may have been there with another mode
		return err
	}
	return os.Rename(part, name)
}
