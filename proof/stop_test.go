package proof

import (
	"context"
	"errors"
	"os/exec"
	"syscall"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// fill puts a round of load through p until stop is closed.
func fill(t *testing.T, p *process, b *book, round int, seed uint64, stop <-chan struct{}) *load {
	t.Helper()
	c := connect(t, p.grpc)
	defer c.close()
	l := &load{book: b, round: round, ids: 12, keys: 16, kvName: "demo-kv", logName: "demo-log"}
	l.run(c, seed, 8, stop)
	if err := b.err(); err != nil {
		t.Fatalf("round %d: %v\n%s", round, err, p.said())
	}
	return l
}

// check settles what is open and compares everything with the book.
func check(t *testing.T, p *process, b *book) {
	t.Helper()
	c := connect(t, p.grpc)
	defer c.close()
	if err := b.settle(c); err != nil {
		t.Fatalf("%v\n%s", err, p.said())
	}
	if err := b.verify(c, "demo-kv", "demo-log"); err != nil {
		t.Fatalf("%v\n%s", err, p.said())
	}
}

// TestKillWhileStarting kills the process at random moments of its start: on an
// empty directory, and on one that has a log to catch up with.
func TestKillWhileStarting(t *testing.T) {
	seed, r := seedOf(t)
	b := &book{}
	dir := t.TempDir()
	tries := 6
	if long() {
		tries = 60
	}
	interrupt := func(most time.Duration) {
		p := launch(t, dir)
		timer := time.NewTimer(time.Duration(r.Int64N(int64(most))))
		defer timer.Stop()
		<-timer.C
		p.kill(t)
	}
	for range tries {
		interrupt(80 * time.Millisecond)
	}
	for round := range 2 {
		p := start(t, dir)
		victim := p
		timer := time.AfterFunc(300*time.Millisecond, func() { victim.kill(t) })
		fill(t, p, b, round, seed, p.gone)
		timer.Stop()
		for range tries {
			interrupt(150 * time.Millisecond)
		}
		p = start(t, dir)
		check(t, p, b)
		p.kill(t)
	}
}

// TestTerminate stops the process by SIGTERM under load: it ends with code 0,
// answers what it has in hand, and loses nothing that it acknowledged.
func TestTerminate(t *testing.T) {
	seed, r := seedOf(t)
	b := &book{}
	dir := t.TempDir()
	rounds := 3
	if long() {
		rounds = 30
	}
	for round := range rounds {
		p := start(t, dir)
		victim := p
		timer := time.AfterFunc(time.Duration(50+r.IntN(200))*time.Millisecond, func() {
			b.setStopping(true)
			victim.signal(t, syscall.SIGTERM)
		})
		fill(t, p, b, round, seed, p.gone)
		timer.Stop()
		<-p.gone
		b.setStopping(false)
		if p.err != nil {
			t.Fatalf("round %d: SIGTERM: %v\n%s", round, p.err, p.said())
		}
		p = start(t, dir)
		check(t, p, b)
		p.kill(t)
	}
}

// TestTerminateTwice sends SIGTERM to a process that then waits for an hour
// before it refuses requests; the second one ends it at once.
func TestTerminateTwice(t *testing.T) {
	seed, _ := seedOf(t)
	b := &book{}
	dir := t.TempDir()
	p := start(t, dir, "--drain-delay", "1h")
	c := connect(t, p.grpc)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	health, err := healthpb.NewHealthClient(c.cc).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	await := func(want healthpb.HealthCheckResponse_ServingStatus) {
		for {
			r, err := health.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if r.Status == want {
				return
			}
		}
	}
	await(healthpb.HealthCheckResponse_SERVING)
	p.signal(t, syscall.SIGTERM)
	await(healthpb.HealthCheckResponse_NOT_SERVING)

	victim := p
	timer := time.AfterFunc(100*time.Millisecond, func() { victim.signal(t, syscall.SIGTERM) })
	defer timer.Stop()
	fill(t, p, b, 0, seed, p.gone) // taken during the delay
	<-p.gone
	if exit := (*exec.ExitError)(nil); !errors.As(p.err, &exit) || exit.Success() {
		t.Errorf("a second SIGTERM: %v, want the end by the signal", p.err)
	}
	mustHave(t, b.counts[acked] > 0, "acknowledgement during the drain delay")
	p = start(t, dir)
	check(t, p, b)
}
