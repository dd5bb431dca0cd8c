package docs

import (
	"path/filepath"
	"testing"

	"github.com/headwater-db/headwater/cmd/headwater/servertest"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

// poison makes a data directory in which the record user/13 of demo-kv has a
// mutation that cannot be applied, as a faulty producer would write it: a sound
// envelope around a payload that is not.
func poison(t *testing.T, dir string) {
	t.Helper()
	servertest.Start(t, dir).Stop(t) // makes the demo namespaces
	b, err := pebblelog.Open(pebblelog.Config{Dir: filepath.Join(dir, "log"), FreeSpaceFloor: -1})
	if err != nil {
		t.Fatal(err)
	}
	l, err := b.Open(t.Context(), "headwater.kv.demo-kv.1")
	if err != nil {
		t.Fatal(err)
	}
	rec := wal.AppendRecord(nil, &wal.Record{
		Kind: wal.KindKV, RoutingKey: []byte("user/13"), Payload: []byte{1, 1, 0, 1, 99, 0},
		Token: wal.Token{GenerationTime: b.Now().UnixMicro(), Nonce: wal.NewNonce()},
	})
	p := wal.PartitionOf([]byte("user/13"), l.Info().Partitions)
	if r := l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Partition: p, Data: rec}})[0]; r.Err != nil {
		t.Fatal(r.Err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
