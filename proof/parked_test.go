package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

// park is a namespace with one key that is parked again and again while the operator
// changes its stores: records that can never be applied are put into its log while the
// process is down, and are redriven and dropped while others wait behind them.
type park struct {
	ns      string
	kind    wal.Kind
	payload []byte // of a record that can never be applied
	write   func(ctx context.Context, c *conn, n int64) error
	read    func(ctx context.Context, c *conn) (int64, error)

	mu    sync.Mutex // guards what follows
	acked int64      // how many writes are known to be in the log; the next may be
	drops int
	tries int
}

// parkedKey is the key.
const parkedKey = "parked"

func kvPark(ns string) *park {
	return &park{
		ns: ns, kind: wal.KindKV, payload: []byte{1, 1, 0, 1, 99, 0},
		write: func(ctx context.Context, c *conn, n int64) error {
			_, err := c.kv.PutItems(ctx, &headwaterv1.PutItemsRequest{
				Namespace: ns, Id: parkedKey, Items: []*headwaterv1.PutItem{{Key: []byte("k"), Value: fmt.Append(nil, n)}}, Token: tokenNamed("park %d", n),
			})
			return err
		},
		read: func(ctx context.Context, c *conn) (n int64, err error) {
			r, err := c.kv.GetItems(ctx, &headwaterv1.GetItemsRequest{Namespace: ns, Id: parkedKey, Consistency: headwaterv1.Consistency_LATEST})
			if err == nil && len(r.GetItems()) > 0 {
				_, err = fmt.Sscan(string(r.GetItems()[0].GetValue()), &n)
			}
			return n, err
		},
	}
}

func counterPark(ns string) *park {
	return &park{
		ns: ns, kind: wal.KindCounter, payload: []byte{1, 99},
		write: func(ctx context.Context, c *conn, n int64) error {
			_, err := headwaterv1.NewCounterServiceClient(c.cc).AddCount(ctx, &headwaterv1.AddCountRequest{Namespace: ns, Counter: parkedKey, Delta: 1, Token: tokenNamed("park %d", n)})
			return err
		},
		read: func(ctx context.Context, c *conn) (int64, error) {
			r, err := headwaterv1.NewCounterServiceClient(c.cc).GetCount(ctx, &headwaterv1.GetCountRequest{Namespace: ns, Counter: parkedKey, Accuracy: headwaterv1.Count_ACCURATE})
			return r.GetCount().GetValue(), err
		},
	}
}

// plant puts what can never be applied into the logs of a directory that no process has.
func (o *operator) plant(t *testing.T, dir string) {
	t.Helper()
	if o == nil || len(o.parks) == 0 {
		return
	}
	b, err := pebblelog.Open(pebblelog.Config{Dir: filepath.Join(dir, "log"), FreeSpaceFloor: -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range o.parks {
		abstraction := "kv"
		if k.kind == wal.KindCounter {
			abstraction = "counter"
		}
		l, err := b.Open(t.Context(), "headwater."+abstraction+"."+k.ns+".1")
		if err != nil {
			t.Fatal(err)
		}
		rec := wal.AppendRecord(nil, &wal.Record{
			Kind: k.kind, RoutingKey: []byte(parkedKey), Payload: k.payload, Token: wal.Token{GenerationTime: b.Now().UnixMicro(), Nonce: wal.NewNonce()},
		})
		p := wal.PartitionOf([]byte(parkedKey), l.Info().Partitions)
		if r := l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Partition: p, Data: rec}})[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// run writes one after the other, each until it is known to be in the log, and redrives
// and drops what is parked, until stop.
func (k *park) run(c *conn, r *rand.Rand, stop <-chan struct{}) error {
	log := headwaterv1.NewLogServiceClient(c.cc)
	one := func() error {
		ctx, cancel := callContext()
		defer cancel()
		selection := &headwaterv1.DeadLetterSelection{Key: proto.String(parkedKey)}
		switch r.IntN(40) {
		case 0:
			k.did(&k.drops)
			_, err := log.DropDeadLetters(ctx, &headwaterv1.DropDeadLettersRequest{Namespace: k.ns, Selection: selection})
			return err
		case 1:
			k.did(&k.tries)
			_, err := log.RedriveDeadLetters(ctx, &headwaterv1.RedriveDeadLettersRequest{Namespace: k.ns, Selection: selection})
			return err
		}
		err := k.write(ctx, c, k.next())
		if err == nil {
			k.mu.Lock()
			k.acked++
			k.mu.Unlock()
		}
		return err
	}
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		switch err := one(); status.Code(err) {
		case codes.OK, codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		default:
			return fmt.Errorf("parked key of %s: %w", k.ns, err)
		}
	}
}

func (k *park) did(what *int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	*what++
}

func (k *park) next() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.acked + 1
}

// check drops what can never be applied, all of it, and then every write has had its
// effect once.
func (k *park) check(c *conn) error {
	log := headwaterv1.NewLogServiceClient(c.cc)
	for {
		ctx, cancel := callContext()
		r, err := log.DropDeadLetters(ctx, &headwaterv1.DropDeadLettersRequest{Namespace: k.ns, Selection: &headwaterv1.DeadLetterSelection{Key: proto.String(parkedKey)}})
		cancel()
		if err != nil {
			return fmt.Errorf("drop what is parked in %s: %w", k.ns, err)
		}
		if r.GetMatched() == 0 {
			break
		}
	}
	ctx, cancel := callContext()
	defer cancel()
	n, err := k.read(ctx, c)
	if acked := k.next() - 1; err != nil || n != acked && n != acked+1 {
		return errors.Join(err, fmt.Errorf("the parked key of %s has the effect of %d writes, and %d are acknowledged", k.ns, n, acked))
	}
	return nil
}
