package proof

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// TestKill kills the real binary by SIGKILL at random moments under load,
// restarts it on the same directory, and checks everything that anyone was told.
func TestKill(t *testing.T) {
	rounds := 10
	if long() {
		rounds = 200
	}
	killRounds(t, rounds, "demo-kv", nil, false)
}

// killRounds kills under load of two namespaces. op, if not nil, changes the stores of
// kvName beside it. remote: those are on another server.
func killRounds(t *testing.T, rounds int, kvName string, op *operator, remote bool, args ...string) {
	seed, r := seedOf(t)
	b := &book{}
	dir := t.TempDir()
	p := start(t, dir, args...)
	op.begin(t, p)
	var open, again int
	for round := range rounds {
		c := connect(t, p.grpc)
		l := &load{book: b, round: round, ids: 12, keys: 16, kvName: kvName, logName: "demo-log"}
		stop := make(chan struct{})
		operated := op.run(c, seed, round, stop)
		victim := p
		time.AfterFunc(time.Duration(20+r.IntN(300))*time.Millisecond, func() {
			victim.signal(t, syscall.SIGKILL)
			close(stop) // what the writers have in hand is cut off
		})
		l.run(c, seed, 8, stop)
		<-p.gone
		<-operated
		c.close()
		if err := b.err(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}

		op.plant(t, dir)
		p = start(t, dir, args...)
		c = connect(t, p.grpc)
		if remote { // writes are taken before the tokens in the log are known: a copy is then perhaps one
			if err := applied(c, kvName); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		open += len(b.open())
		if err := b.settle(c); err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, p.said())
		}
		sample := b.sample(r, 60)
		again += len(sample)
		if err := b.again(c, sample); err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, p.said())
		}
		if err := b.verify(c, l.kvName, l.logName); err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, p.said())
		}
		if err := op.check(c); err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, p.said())
		}
		c.close()
	}
	t.Logf("%d kills, %d writes, %d of unknown outcome, %d sent again after a restart; answers: %d unknown, %d acknowledged, %d refused, %d not applied",
		rounds, len(b.writes), open, again, b.counts[unknown], b.counts[acked], b.counts[refused], b.counts[notApplied])
	mustHave(t, b.counts[acked] >= rounds && b.counts[refused] > 0 && open > 0, "refused write, or none of unknown outcome")
}

// applied returns when everything that the log of a namespace has is applied.
func applied(c *conn, ns string) error {
	ctx, cancel := callContext()
	defer cancel()
	req := &headwaterv1.ScanItemsRequest{Namespace: ns, Consistency: headwaterv1.Consistency_LATEST}
	for {
		page, err := c.kv.ScanItems(ctx, req)
		if err != nil || page.NextPageToken == "" {
			return err
		}
		req.PageToken = page.NextPageToken
	}
}

// sample draws settled writes of the last rounds, which are within the token
// window.
func (b *book) sample(r *rand.Rand, n int) (ws []*write) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.writes) == 0 {
		return nil
	}
	last := b.writes[len(b.writes)-1].round
	var from int
	for from < len(b.writes) && b.writes[from].round < last-20 {
		from++
	}
	for range n {
		if w := b.writes[from+r.IntN(len(b.writes)-from)]; w.settled {
			ws = append(ws, w)
		}
	}
	return ws
}
