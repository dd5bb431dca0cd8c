package server

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/segmentio/ksuid"

	"github.com/headwater-db/headwater/consumers/clusterstore"
	"github.com/headwater-db/headwater/gateway"
)

// formatVersion is the version of the data directory that this build writes.
const formatVersion = 2

// dataDir is the process's directory:
//
//	FORMAT      version of the layout and the directory's id
//	LOCK        held while a process uses the directory; says which
//	page.key    the key of page tokens
//	log/        the embedded log
//	stores/     one directory for each store, by the incarnation of its topic, with
//	            the files ORIGIN (the registry that names it) and INCARNATION
type dataDir struct {
	path string
	id   string
	lock *os.File
}

// openDataDir makes or opens a directory and locks it.
func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w; choose another with --data-dir", err)
	}
	d := &dataDir{path: path}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	if err := d.readFormat(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	for _, sub := range []string{"log", "stores"} {
		if err := os.MkdirAll(filepath.Join(path, sub), 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("make data directory: %w", err), d.close())
		}
	}
	return d, nil
}

// ErrLocked means that another process holds the data directory.
var ErrLocked = errors.New("data directory is in use")

func (d *dataDir) acquire() error {
	name := filepath.Join(d.path, "LOCK")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the lock of the data directory: %w; it must be writable", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, rerr := os.ReadFile(name)
		if rerr != nil {
			holder = []byte("unknown process")
		}
		return errors.Join(fmt.Errorf("%w: %s is held by %s; stop it, or choose another directory with --data-dir",
			ErrLocked, d.path, strings.TrimSpace(string(holder))), f.Close())
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "process %d, since %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the lock of the data directory: %w", err), f.Close())
	}
	d.lock = f
	return nil
}

func (d *dataDir) readFormat() error {
	name := filepath.Join(d.path, "FORMAT")
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(filepath.Join(d.path, "log"))
		if err == nil && len(entries) > 0 {
			return fmt.Errorf("data directory %s has a log and no FORMAT file: it is not whole; restore FORMAT from a copy", d.path)
		}
		d.id = ksuid.New().String()
		return writeSynced(name, fmt.Appendf(nil, "headwater %d\nid %s\n", formatVersion, d.id))
	}
	if err != nil {
		return fmt.Errorf("read the format of the data directory: %w", err)
	}
	version := 0
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		switch k, v, _ := strings.Cut(s.Text(), " "); k {
		case "headwater":
			if version, err = strconv.Atoi(v); err != nil {
				return fmt.Errorf("data directory %s: FORMAT does not say its version: %w", d.path, err)
			}
		case "id":
			d.id = v
		}
	}
	if version > formatVersion {
		return fmt.Errorf("data directory %s has format %d, and this build knows formats up to %d; use the build that wrote it, or a newer one", d.path, version, formatVersion)
	}
	if version < 1 || d.id == "" {
		return fmt.Errorf("data directory %s: FORMAT is not one that Headwater wrote", d.path)
	}
	if version < formatVersion { // of before the first release
		return fmt.Errorf("data directory %s has format %d, and this build reads format %d alone; use the build that wrote it, or choose another directory with --data-dir", d.path, version, formatVersion)
	}
	return nil
}

// checkLog refuses a directory that has stores and has lost its log: a new log
// would begin a new registry, which knows nothing of them, and the process would
// serve nothing where there was something.
func (d *dataDir) checkLog() error {
	log, err := os.ReadDir(d.logDir())
	if err != nil {
		return fmt.Errorf("list the log: %w", err)
	}
	stores, err := os.ReadDir(d.storeDir(""))
	if err != nil {
		return fmt.Errorf("list stores: %w", err)
	}
	if len(log) == 0 && len(stores) > 0 {
		return fmt.Errorf("data directory %s has stores and no log: restore %s from a copy; if the directory was used with Kafka, go on with --kafka-brokers, or choose another with --data-dir",
			d.path, d.logDir())
	}
	return nil
}

// writeSynced puts a small file in place whole or not at all.
func writeSynced(name string, b []byte) error {
	if err := clusterstore.WriteSynced(name, string(b)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// pageKey returns the key of page tokens, made once, so that they survive a
// restart.
func (d *dataDir) pageKey() ([]byte, error) {
	name := filepath.Join(d.path, "page.key")
	key, err := os.ReadFile(name)
	if err == nil && len(key) == gateway.PageKeySize {
		return key, nil
	}
	if err == nil {
		return nil, fmt.Errorf("%s has %d bytes, not %d: remove it to make a new one (open page tokens become invalid)", name, len(key), gateway.PageKeySize)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the key of page tokens: %w", err)
	}
	key = make([]byte, gateway.PageKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("make the key of page tokens: %w", err)
	}
	return key, writeSynced(name, key)
}

func (d *dataDir) logDir() string { return filepath.Join(d.path, "log") }

func (d *dataDir) storeDir(name string) string { return filepath.Join(d.path, "stores", name) }

// close unlocks the directory. The file stays: removing it would let two
// processes hold two files of one name.
func (d *dataDir) close() error { return d.lock.Close() }
