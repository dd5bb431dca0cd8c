package kafkalog

import (
	"bytes"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

func TestAcknowledgedRecordsAreReadInOrder(t *testing.T) {
	t.Parallel()
	l := createLog(t, openBroker(t, fakeConfig(newCluster(t))), "headwater.kv.a.1", 4)
	const n = 500
	entries := make([]wal.NewEntry, n)
	for i := range entries {
		entries[i] = wal.NewEntry{Partition: wal.Partition(i % 4), Data: record(i)}
	}
	for i, r := range l.Append(testContext(t), wal.Sync, entries) {
		if r.Err != nil || r.Offset != wal.Offset(i/4) {
			t.Fatalf("entry %d: offset %d, %v", i, r.Offset, r.Err)
		}
	}
	for p := range 4 {
		for i, e := range readN(t, l, wal.Partition(p), 0, n/4) {
			if e.Offset != wal.Offset(i) || !bytes.Equal(e.Data, record(i*4+p)) || e.LogTime == 0 || e.Partition != wal.Partition(p) {
				t.Fatalf("partition %d, place %d: %+v", p, i, e)
			}
		}
	}
}
