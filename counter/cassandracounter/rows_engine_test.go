package cassandracounter

import (
	"errors"
	"testing"
	"time"

	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/deploy/engines/enginetest"
	"github.com/headwater-db/headwater/wal"
)

// TestEngineLatePublicationsLose: whatever a worker that was frozen publishes afterwards, and however late it arrives, the rows
// stay as of the highest position.
func TestEngineLatePublicationsLose(t *testing.T) {
	at, keyspace := enginetest.Keyspace(t)
	c, err := cassandrastore.Connect(cassandrastore.ClusterConfig{
		Name: "test", Hosts: []string{at}, Keyspace: keyspace, Replication: map[string]int{"datacenter1": 1}, MakeSchema: true,
	}, Tables...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	made, _, err := cassandrastore.OpenRows(t.TempDir(), c, "a 'quoted'; data\nset", "")
	if err != nil {
		t.Fatal(err)
	}
	r := &rows{made, 3}
	ctx := t.Context()
	exec := func(all ...cassandrastore.Statement) {
		t.Helper()
		for _, q := range all {
			if err := r.Exec(ctx, "publish", q); err != nil {
				t.Fatal(err)
			}
		}
	}
	published := func(o wal.Offset) {
		t.Helper()
		var st counter.State
		st.Applied, st.LogTime = o, int64(o)
		if err := r.published(ctx, &st); err != nil {
			t.Fatal(err)
		}
	}
	row := func(value int64, o wal.Offset) *counter.Row {
		return &counter.Row{ID: 1, Value: value, LastOffset: o}
	}
	held := counter.Reservation{ID: wal.TokenID{1}, State: counter.Held, Amount: 5}
	settled := held
	settled.State = counter.Settled
	names := [][]byte{[]byte("kept"), []byte("gone"), []byte("gone and back"), []byte("'); DROP TABLE counter_rows_1; --")}
	exec(
		r.saveRow(names[0], row(10, 19), 20), r.saveRow(names[1], nil, 20), r.saveRow(names[2], nil, 20), r.saveRow(names[3], row(7, 20), 20),
		r.saveReservation(&settled, 20, time.Hour))
	published(20)
	// What is late.
	exec(
		r.saveRow(names[0], row(4, 9), 10), r.saveRow(names[1], row(3, 10), 10), r.saveRow(names[2], row(3, 10), 10), r.saveRow(names[3], nil, 10),
		r.saveReservation(&held, 10, time.Hour))
	published(10)
	exec(r.saveRow(names[2], row(1, 21), 21))

	want := map[string]int64{string(names[0]): 10, string(names[2]): 1, string(names[3]): 7}
	got := make(map[string]int64)
	err = r.Counters(ctx, func(name []byte, row *counter.Row) error {
		if row.ID != 0 {
			got[string(name)] = row.Value
		}
		return nil
	})
	if err != nil || len(got) != len(want) {
		t.Errorf("counters: %v, %v, not %v", got, err, want)
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("counter %q is %d, not %d", name, got[name], v)
		}
		if a, err := r.count(ctx, []byte(name), 0); err != nil || a.Value != v {
			t.Errorf("counter %q is read as %+v, %v, not %d", name, a, err, v)
		}
	}
	n := 0
	err = r.Reservations(ctx, func(v *counter.Reservation) error {
		if n++; v.State != counter.Settled || v.ID != held.ID {
			t.Errorf("a reservation is %+v", v)
		}
		return nil
	})
	if st, serr := r.status(ctx); err != nil || serr != nil || n != 1 || st.Applied != 20 {
		t.Errorf("%d reservations, published up to %d: %v", n, st.Applied, errors.Join(err, serr))
	}
}
