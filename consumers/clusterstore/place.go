package clusterstore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/headwater-db/headwater/wal"
)

// Kind is what kind of server has the rows. It is the name of the file that says so.
type Kind string

// The kinds.
const (
	ClickHouse Kind = "CLICKHOUSE"
	Cassandra  Kind = "CASSANDRA"
)

// Place says which rows belong to the store in a directory.
type Place struct {
	Life    string // 32 hexadecimal digits
	Cluster string // its name in the process configuration
	Dataset string // a name for people, which is in every row; of ClickHouse it is not kept here
}

// ErrOtherRows: the directory is of a store with other rows.
var ErrOtherRows = errors.New("its rows are others")

// Open reads the place of the store in dir, and makes that of want where it has none: with a new life where want has
// none. Of a place that is there the dataset stays. ErrOtherRows.
func Open(dir string, kind Kind, want Place) (at Place, fresh bool, err error) {
	at, there, err := Read(dir, kind)
	switch {
	case err != nil:
		return at, false, err
	case !there:
		if want.Life == "" {
			if want.Life, err = NewLife(); err != nil {
				return at, false, err
			}
		}
		return want, true, want.write(dir, kind)
	case at.Cluster != want.Cluster:
		return at, false, fmt.Errorf("%w: they are in cluster %s", ErrOtherRows, at.Cluster)
	case want.Life != "" && at.Life != want.Life:
		return at, false, fmt.Errorf("%w: those of life %s, not of %s", ErrOtherRows, at.Life, want.Life)
	}
	return at, false, nil
}

// Read reads the place of the store in dir; there is false where it has none.
func Read(dir string, kind Kind) (at Place, there bool, err error) {
	name := filepath.Join(dir, string(kind))
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return at, false, nil
	}
	if err != nil {
		return at, false, err
	}
	var ok bool
	at.Life, at.Cluster, ok = strings.Cut(strings.TrimSuffix(string(b), "\n"), " ")
	at.Cluster, at.Dataset, _ = strings.Cut(at.Cluster, " ")
	var bad error
	if at.Dataset, bad = url.QueryUnescape(at.Dataset); bad != nil {
		ok = false
	}
	if raw, err := hex.DecodeString(at.Life); err != nil || len(raw) != 16 || !ok {
		return at, false, fmt.Errorf("%w: %s does not name the rows of a store", wal.ErrCorrupt, name)
	}
	return at, true, nil
}

// NewLife is a life that no store has.
func NewLife() (string, error) {
	raw := make([]byte, 16)
	_, err := rand.Read(raw)
	return hex.EncodeToString(raw), err
}

// write puts the place into a directory.
func (at *Place) write(dir string, kind Kind) error {
	if raw, err := hex.DecodeString(at.Life); err != nil || len(raw) != 16 {
		return fmt.Errorf("%w: %.64q is not the life of a store", wal.ErrCorrupt, at.Life)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return WriteSynced(filepath.Join(dir, string(kind)), strings.TrimSuffix(at.Life+" "+at.Cluster+" "+url.QueryEscape(at.Dataset), " ")+"\n")
}

// ClustersOf are the names of the clusters that have rows of the store in dir.
func ClustersOf(dir string) (names []string, err error) {
	for _, kind := range []Kind{ClickHouse, Cassandra} {
		at, there, err := Read(dir, kind)
		if err != nil {
			return nil, err
		}
		if there {
			names = append(names, at.Cluster)
		}
	}
	return names, nil
}

// WriteSynced writes a small file that is there as a whole or not at all, and is on disk when it returns nil.
func WriteSynced(name, content string) (err error) {
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

// NotePartitions writes how many partitions the store in dir has into a small file there, of a name that only stores of one
// kind have, unless it is there: who drops its rows has to know.
func NotePartitions(dir, file string, n int) error {
	name := filepath.Join(dir, file)
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return WriteSynced(name, fmt.Sprintf("%d\n", n))
}

// PartitionsIn is how many partitions the store in dir has; 0 where the file is not there: it is of another kind, or nothing
// was ever written.
func PartitionsIn(dir, file string) (n int, err error) {
	b, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err == nil {
		_, err = fmt.Sscanf(string(b), "%d\n", &n)
	}
	return n, err
}
