package enginetest

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gocql/gocql"
)

var keyspaces atomic.Int64

// NewKeyspace is the name of a keyspace that no other test has.
func NewKeyspace() string {
	return fmt.Sprintf("hw_test_%d_%d_%d", os.Getpid(), time.Now().UnixMilli(), keyspaces.Add(1))
}

// Keyspace is where a real Cassandra listens, and a keyspace of the test's own, which is dropped with it.
func Keyspace(t testing.TB) (at, keyspace string) {
	t.Helper()
	at, keyspace = Need(t, "HEADWATER_TEST_CASSANDRA", "cassandra"), NewKeyspace()
	t.Cleanup(func() {
		if err := DropKeyspace(at, keyspace); err != nil {
			t.Error(err)
		}
	})
	return at, keyspace
}

// DropKeyspace removes a keyspace of NewKeyspace, if it was made.
func DropKeyspace(at, keyspace string) error {
	cfg := gocql.NewCluster(at)
	cfg.Timeout = 30 * time.Second
	s, err := cfg.CreateSession()
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Query("DROP KEYSPACE IF EXISTS " + keyspace).Exec()
}
