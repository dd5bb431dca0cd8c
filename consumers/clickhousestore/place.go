package clickhousestore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/headwater-db/headwater/wal"
)

// place says which rows belong to the store in a directory.
type place struct{ life, cluster string }

// placeFile is in the directory of a store, and names the rows that belong to it.
const placeFile = "CLICKHOUSE"

// openPlace reads the place of the store in dir, and makes a new one where it has none.
func openPlace(dir, cluster string) (at place, fresh bool, err error) {
	at, there, err := readPlace(dir)
	switch {
	case err != nil:
		return at, false, err
	case !there:
		at, err = newPlace(dir, cluster)
		return at, true, err
	case at.cluster != cluster:
		return at, false, fmt.Errorf("its rows are in cluster %s", at.cluster)
	}
	return at, false, nil
}

func readPlace(dir string) (at place, there bool, err error) {
	name := filepath.Join(dir, placeFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return at, false, nil
	}
	if err != nil {
		return at, false, err
	}
	var ok bool
	at.life, at.cluster, ok = strings.Cut(strings.TrimSuffix(string(b), "\n"), " ")
	if raw, err := hex.DecodeString(at.life); err != nil || len(raw) != 16 || !ok {
		return at, false, fmt.Errorf("%w: %s does not name the rows of a store", wal.ErrCorrupt, name)
	}
	return at, true, nil
}

// newPlace gives the store in dir rows that no other has.
func newPlace(dir, cluster string) (place, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return place{}, err
	}
	raw := make([]byte, 16)
	if _, err := rand.Read(raw); err != nil {
		return place{}, err
	}
	at := place{hex.EncodeToString(raw), cluster}
	return at, writeSynced(filepath.Join(dir, placeFile), at.life+" "+at.cluster+"\n")
}

// ClusterOf is the name of the cluster that has rows of the store in dir, "" where it has none.
func ClusterOf(dir string) (string, error) {
	at, _, err := readPlace(dir)
	return at.cluster, err
}

// writeSynced writes a small file that is there as a whole or not at all.
func writeSynced(name, content string) (err error) {
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
