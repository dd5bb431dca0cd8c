package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

func TestTheQuietestTurnsCountWhateverTheirResult(t *testing.T) {
	t.Parallel()
	h := &harness{rounds: 3, measure: "m", w: &bytes.Buffer{}}
	h.add("n", "x/s", atLeast(0.9), "subject", "peer", []turn{
		{peer: 100, subject: 500, elsewhere: 1.5}, // a fine ratio, but not to be trusted
		{peer: 100, subject: 80, elsewhere: 0},
		{peer: 200, subject: 170, elsewhere: 0.01},
		{peer: 100, subject: 90, elsewhere: 0.02},
	}, "")
	r := h.rows[0]
	if r.Subject.Median != 90 || r.Peer.Median != 100 || r.Ratio != 0.9 || !*r.Pass || r.Repeated != 1 {
		t.Errorf("%+v", r)
	}
	if r.Spread != [2]float64{0.8, 0.9} || r.Elsewhere != [2]float64{0.01, 0.02} {
		t.Errorf("spread %v, elsewhere %v", r.Spread, r.Elsewhere)
	}
}

func TestBarsAreJudgedByRatioOrByTheNumberItself(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bar           *bar
		subject, peer float64
		pass          bool
	}{
		{atLeast(0.9), 89, 100, false}, {atLeast(0.9), 90, 100, true},
		{atMost(1.5), 150, 100, true}, {atMost(1.5), 151, 100, false},
		{&bar{limit: 60_000, atLeast: true, absolute: true}, 59_999, 0, false}, {&bar{limit: 60_000, atLeast: true, absolute: true}, 60_000, 0, true},
		{&bar{limit: 10, absolute: true}, 10.1, 0, false}, {&bar{limit: 10, absolute: true}, 9.9, 0, true},
	} {
		h := &harness{rounds: 1, w: &bytes.Buffer{}}
		peer := ""
		if c.peer > 0 {
			peer = "peer"
		}
		h.add("n", "u", c.bar, "subject", peer, []turn{{peer: c.peer, subject: c.subject}}, "")
		if *h.rows[0].Pass != c.pass {
			t.Errorf("%+v: pass is %v", c, *h.rows[0].Pass)
		}
	}
}

func TestTurnsAlternateAndAnErrorEndsThem(t *testing.T) {
	t.Parallel()
	h := &harness{rounds: 3, w: &bytes.Buffer{}}
	var order []string
	mark := func(s string, fail bool) side {
		return side{s, func(context.Context, int) (float64, error) {
			order = append(order, s)
			if fail && len(order) == 4 {
				return 0, errors.New("broke")
			}
			return 1, nil
		}}
	}
	peer := mark("A", false)
	err := h.compare(t.Context(), "n", "u", nil, mark("B", true), &peer, "")
	if err == nil || !strings.Contains(err.Error(), "broke") || !slices.Equal(order, []string{"A", "B", "A", "B"}) || len(h.rows) != 0 {
		t.Errorf("order %v, error %v, rows %d", order, err, len(h.rows))
	}
}

func TestTheCommandPrintedNamesNoPlaces(t *testing.T) {
	t.Parallel()
	h, err := parse([]string{"-only", "puts", "-dir", "/somewhere", "-out=/there/x", "-rounds=7"})
	if err != nil {
		t.Fatal(err)
	}
	if h.command != "go run ./bench -only puts -rounds=7" {
		t.Errorf("command %q", h.command)
	}
	if _, err := parse([]string{"-only", "nothing"}); err == nil {
		t.Error("an unknown measure was taken")
	}
}

func TestMedianOfAnEvenNumberIsBetweenTheTwoInTheMiddle(t *testing.T) {
	t.Parallel()
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median %v", m)
	}
	if m := median([]float64{9, 1, 5}); m != 5 {
		t.Errorf("median %v", m)
	}
}

// The log that the catch-up applies has what the gateway would have written:
// every put once, in its partition, as many to a record as asked.
func TestPutsAreRecordedAsTheGatewayDoes(t *testing.T) {
	t.Parallel()
	for _, together := range []int{1, 4, 64} {
		b, err := openLog(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		log, err := b.Create(t.Context(), wal.TopicSpec{Name: "headwater.kv.bench.1", Partitions: 4})
		if err != nil {
			t.Fatal(err)
		}
		const n = 1000
		if err := writePuts(t.Context(), log, 0, n, together, b.Now()); err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]bool)
		for i := range 4 {
			p := wal.Partition(i)
			bounds, err := log.Bounds(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			r, err := log.Read(t.Context(), p, 0)
			if err != nil {
				t.Fatal(err)
			}
			for read := wal.Offset(0); read < bounds.End; {
				entries, err := r.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				read += wal.Offset(len(entries))
				for _, e := range entries {
					checkRecord(t, e, p, together, seen)
				}
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if len(seen) != 2*n { // an id and a nonce each
			t.Errorf("%d together: %d ids and nonces, want %d", together, len(seen), 2*n)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func checkRecord(t *testing.T, e wal.Entry, p wal.Partition, together int, seen map[string]bool) {
	t.Helper()
	var rec wal.Record
	var payload kv.Payload
	if err := errors.Join(wal.DecodeRecord(e.Data, &rec), kv.DecodePayload(rec.Payload, &payload)); err != nil {
		t.Fatal(err)
	}
	if len(payload.Calls) < 1 || len(payload.Calls) > together {
		t.Errorf("a record has %d calls, want 1 to %d", len(payload.Calls), together)
	}
	for _, c := range payload.Calls {
		tok := c.Token
		if tok.IsZero() {
			tok = rec.Token
		}
		id := c.Mutations[0].ID
		if wal.PartitionOf(id, 4) != p || tok.IsZero() || len(c.Mutations[0].Items[0].Value) != valueBytes {
			t.Errorf("call of %q in partition %d: %+v", id, p, c)
		}
		seen[string(id)], seen[string(tok.Nonce[:])] = true, true
	}
}
