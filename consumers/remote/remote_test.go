package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

// cluster is a decisions topic of one partition, and what is known of it.
type cluster struct {
	log  wal.Log
	book *decisions.Book
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	b, err := pebblelog.Open(pebblelog.Config{FS: vfs.NewMem(), Dir: "log", FreeSpaceFloor: -1})
	if err != nil {
		t.Fatal(err)
	}
	l, err := b.Create(t.Context(), wal.TopicSpec{Name: "headwater.decisions.a.1", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{log: l, book: decisions.Follow(l, slog.New(slog.DiscardHandler))}
	t.Cleanup(func() {
		c.book.Close()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// worker is a process that holds the partition while nobody else has claimed it since.
type worker struct {
	c        *cluster
	name     string
	progress *wal.Progress
	parked   consumers.ParkedQueue // its only one, when it has a key
	asked    atomic.Int64
}

func (w *worker) Progress() *wal.Progress        { return w.progress }
func (w *worker) LiveTokens(wal.Partition) int64 { return 7 }

func (w *worker) Epoch(p wal.Partition) (wal.Offset, bool) {
	c, ok := w.c.book.Holder(p)
	return c.Epoch, ok && c.Process == w.name
}

func (w *worker) Token(context.Context, wal.Partition, wal.TokenID) (*clusterv1.TokenEntry, error) {
	return nil, nil
}

func (w *worker) AnswerParts(_ context.Context, _ *clusterv1.AskRequest, send func(*clusterv1.AskResponse) error) error {
	for i := range 3 {
		if err := send(&clusterv1.AskResponse{Answer: &clusterv1.AskResponse_TsGroups{TsGroups: []byte{byte(i)}}}); err != nil {
			return err
		}
	}
	return nil
}

// Answer tells who answers.
func (w *worker) Answer(context.Context, *clusterv1.AskRequest) (*clusterv1.AskResponse, error) {
	w.asked.Add(1)
	return &clusterv1.AskResponse{Answer: &clusterv1.AskResponse_KvChunk{KvChunk: []byte(w.name)}}, nil
}

func (w *worker) Parked(_ context.Context, _ wal.Partition, key []byte) (consumers.ParkedQueue, bool, error) {
	w.asked.Add(1)
	return w.parked, string(w.parked.Key) == string(key), nil
}

func (w *worker) ParkedKeys(wal.Partition) (int, wal.Offset) {
	if w.parked.Key == nil {
		return 0, wal.NoOffset
	}
	return 1, w.parked.Refs[0].Offset
}

func (w *worker) ParkedVersion(wal.Partition) uint64 { return uint64(len(w.parked.Key)) }

func (w *worker) ParkedHeads(_ context.Context, _ wal.Partition, do func(*consumers.ParkedQueue)) error {
	w.asked.Add(1)
	if w.parked.Key != nil {
		do(&w.parked)
	}
	return nil
}

// serve has a worker listen, and claim the partition; stop ends it.
func (c *cluster) serve(t *testing.T, name string) (w *worker, stop func()) {
	t.Helper()
	w = &worker{c: c, name: name, progress: wal.NewProgress(1)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	s := grpc.NewServer(grpc.UnaryInterceptor(Secret("s").Unary), grpc.StreamInterceptor(Secret("s").Stream))
	clusterv1.RegisterOwnerServiceServer(s, &Server{
		Find: func(string, []byte) Holder { return w }, Parked: func(Holder) Parker { return w }, Error: func(err error) error { return err }, Done: done,
	})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		close(done)
		s.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	c.claim(t, decisions.Claim{Process: name, Address: l.Addr().String()})
	return w, stop
}

func (c *cluster) claim(t *testing.T, claim decisions.Claim) {
	t.Helper()
	if _, err := decisions.Append(t.Context(), c.log, 0, claim); err != nil {
		t.Fatal(err)
	}
	if err := c.book.Sync(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
}

// asker is a process that asks; run has it hear of progress too.
func (c *cluster) asker(t *testing.T, run bool) *Client {
	t.Helper()
	peers := NewPeers("s", nil)
	t.Cleanup(peers.Close)
	cl := New(Config{
		Namespace: "a", Info: wal.TopicInfo{Name: "headwater.kv.a.1", Partitions: 1}, Progress: wal.NewProgress(1), Book: c.book, Peers: peers,
		Logger: slog.New(slog.DiscardHandler), Hold: func() bool { return false },
	})
	if run {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { cl.Run(ctx); close(ended) }()
		t.Cleanup(func() { cancel(); <-ended })
	}
	return cl
}

func (c *Client) who(ctx context.Context) (string, error) {
	resp, err := c.Ask(ctx, 0, &clusterv1.AskRequest{})
	return string(resp.GetKvChunk()), err
}

func wantAnswer(t *testing.T, c *Client, want string) {
	t.Helper()
	if got, err := c.who(t.Context()); err != nil || got != want {
		t.Errorf("%q answers, %v; want %q", got, err, want)
	}
}

// TestTheOldOwnerIsNotBelieved: a process that another has claimed the partition from is asked no more, also by
// who has not heard of the newer claim.
func TestTheOldOwnerIsNotBelieved(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	old, _ := c.serve(t, "old")
	cl := c.asker(t, false)
	wantAnswer(t, cl, "old")
	before := old.asked.Load()
	// The asker still reads an older book.
	stale := decisions.Follow(c.log, slog.New(slog.DiscardHandler))
	if err := stale.Sync(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	stale.Close()
	c.serve(t, "new")
	wantAnswer(t, cl, "new")
	cl.cfg.Book = stale
	if got, err := cl.askNow(t.Context(), 0, &clusterv1.AskRequest{}); !errors.Is(err, consumers.ErrOwnerAway) {
		t.Errorf("%q answers by an old claim, %v", got.GetKvChunk(), err)
	}
	if n := old.asked.Load(); n != before {
		t.Errorf("the old owner answered %d times more", n-before)
	}
}

// TestAnOwnerWaitsForWhatWasSeen: what was told to be applied is applied in every answer that comes later,
// whoever gives it.
func TestAnOwnerWaitsForWhatWasSeen(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	old, _ := c.serve(t, "old")
	cl := c.asker(t, true)
	old.progress.Advance(0, 9, 100)
	if err := cl.cfg.Progress.Wait(t.Context(), 0, 9); err != nil {
		t.Fatal(err)
	}
	if at := cl.cfg.Progress.LogTime(0); at != 100 || cl.LiveTokens() != 7 {
		t.Errorf("log time %d, %d tokens", at, cl.LiveTokens())
	}
	behind, _ := c.serve(t, "new")
	behind.progress.Advance(0, 8, 90)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if who, err := cl.who(ctx); err == nil {
		t.Errorf("%q answers before it has applied what was seen", who)
	}
	if at := cl.cfg.Progress.Applied(0); at != 9 {
		t.Errorf("progress went to %d", at)
	}
	behind.progress.Advance(0, 9, 100)
	wantAnswer(t, cl, "new")
}

// TestSilence: while nothing is heard of an owner, waits and questions end with ErrOwnerAway at once, and writes are
// not told that the partition has stopped; all is well once it is back.
func TestSilence(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	_, stop := c.serve(t, "first")
	cl := c.asker(t, true)
	wantAnswer(t, cl, "first")
	stop()
	for !cl.Silent(0) {
		select {
		case <-t.Context().Done():
			t.Fatal("its silence is not noticed")
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := cl.cfg.Progress.Wait(t.Context(), 0, 5); !errors.Is(err, consumers.ErrOwnerAway) {
		t.Errorf("a wait: %v", err)
	}
	if err := cl.cfg.Progress.Stopped(0); err != nil {
		t.Errorf("the partition has stopped: %v", err)
	}
	if _, err := cl.who(t.Context()); !errors.Is(err, consumers.ErrOwnerAway) {
		t.Errorf("a question: %v", err)
	}
	again, _ := c.serve(t, "second")
	again.progress.Advance(0, 5, 1)
	for cl.Silent(0) {
		select {
		case <-t.Context().Done():
			t.Fatal("it is not heard again")
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := cl.cfg.Progress.Wait(t.Context(), 0, 5); err != nil {
		t.Error(err)
	}
	wantAnswer(t, cl, "second")
}

// TestAStoppedPartitionIsToldAndForgotten: why a partition is not applied is told, and forgotten when another
// process applies it.
func TestAStoppedPartitionIsToldAndForgotten(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w, _ := c.serve(t, "first")
	cl := c.asker(t, true)
	w.progress.Stop(0, errors.New("a record of version 9"))
	for cl.cfg.Progress.Stopped(0) == nil {
		select {
		case <-t.Context().Done():
			t.Fatal("it is not told")
		case <-time.After(time.Millisecond):
		}
	}
	if got, want := cl.cfg.Progress.Stopped(0).Error(), "partition 0 has stopped: a record of version 9"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	c.serve(t, "second")
	for cl.cfg.Progress.Stopped(0) != nil {
		select {
		case <-t.Context().Done():
			t.Fatal("it is not forgotten")
		case <-time.After(time.Millisecond):
		}
	}
}

// TestAnAnswerInParts comes whole and in order, and one that nobody can use ends.
func TestAnAnswerInParts(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.serve(t, "w")
	cl := c.asker(t, false)
	got := ""
	add := func(resp *clusterv1.AskResponse) error { got += fmt.Sprintf("%x;", resp.GetTsGroups()); return nil }
	if err := cl.AskParts(t.Context(), 0, &clusterv1.AskRequest{}, add); err != nil || got != "00;01;02;" {
		t.Errorf("%s, %v", got, err)
	}
	full := errors.New("no more")
	if err := cl.AskParts(t.Context(), 0, &clusterv1.AskRequest{}, func(*clusterv1.AskResponse) error { return full }); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
}

type entry struct{}

func (entry) Request() (wal.Hash, int64) { return wal.Hash{}, 0 }

// TestParkedKeysAreRemembered: while something is parked, a call of many keys asks once, and is told of the one
// that is.
func TestParkedKeysAreRemembered(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	w, _ := c.serve(t, "w")
	w.parked = consumers.ParkedQueue{Key: []byte("sick"), Refs: []wal.Ref{{Offset: 3}, {Offset: 4}}, ParkedHead: consumers.ParkedHead{Reason: "poison"}}
	o := &Owner[entry]{Client: c.asker(t, false), Entry: func(wal.TokenID, *clusterv1.TokenEntry) (entry, error) { return entry{}, nil }}
	wantAnswer(t, o.Client, "w") // which tells that one is
	if n, lowest := o.ParkedKeys(0); n != 1 || lowest != 3 {
		t.Errorf("%d keys, from %d", n, lowest)
	}
	before := w.asked.Load()
	for i := range 1000 {
		if _, ok, err := o.Parked(t.Context(), 0, fmt.Append(nil, i)); ok || err != nil {
			t.Fatalf("%d is parked: %v, %v", i, ok, err)
		}
	}
	if n := w.asked.Load() - before; n != 1 {
		t.Errorf("1,000 keys asked %d times", n)
	}
	q, ok, err := o.Parked(t.Context(), 0, []byte("sick"))
	if err != nil || !ok || len(q.Refs) != 2 || q.Reason != "poison" || string(q.Key) != "sick" {
		t.Errorf("%+v, %v, %v", q, ok, err)
	}
}

// TestTokensOfMany asks each worker once, and says of a partition that nobody holds that its owner is away.
func TestTokensOfMany(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	o := &Owner[entry]{Client: c.asker(t, false), Entry: func(wal.TokenID, *clusterv1.TokenEntry) (entry, error) { return entry{}, nil }}
	tokens := make([]consumers.TokenAt, 300)
	for i := range tokens {
		tokens[i].ID[0], tokens[i].ID[1] = byte(i), byte(i>>8)
	}
	for _, f := range o.Tokens(t.Context(), tokens) {
		if !errors.Is(f.Err, consumers.ErrOwnerAway) {
			t.Fatalf("nobody holds it: %+v", f)
		}
	}
	c.serve(t, "w")
	wantAnswer(t, o.Client, "w")
	for _, f := range o.Tokens(t.Context(), tokens) {
		if f.Err != nil || f.Known {
			t.Fatalf("%+v", f)
		}
	}
}

func TestWhoDoesNotKnowTheSecretIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.serve(t, "w")
	cl := c.asker(t, false)
	cl.cfg.Peers = NewPeers("guess", nil)
	t.Cleanup(cl.cfg.Peers.Close)
	if _, err := cl.askNow(t.Context(), 0, &clusterv1.AskRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("%v", err)
	}
}
