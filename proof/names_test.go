package proof

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// name is a namespace as its one user knows it.
type name struct {
	name  string
	there bool
	open  bool // the last change has an unknown outcome
	life  int  // of what was written into it last; 0 for nothing
	lives int
}

// change makes the namespace, with an item that names this life, or deletes it.
func (n *name) change(c *conn) error {
	ns := headwaterv1.NewNamespaceServiceClient(c.cc)
	ctx, cancel := callContext()
	defer cancel()
	if n.there {
		n.open = true
		_, err := ns.DeleteNamespace(ctx, &headwaterv1.DeleteNamespaceRequest{Namespace: n.name, Confirm: n.name})
		if err == nil {
			n.there, n.open, n.life = false, false, 0
		}
		return err
	}
	n.open = true
	if _, err := ns.ApplyNamespace(ctx, &headwaterv1.ApplyNamespaceRequest{Config: fmt.Sprintf("namespace: %s\nabstraction: kv\nlog: { partitions: 1 }\n", n.name)}); err != nil {
		return err
	}
	n.there, n.open = true, false
	n.lives++
	a := c.send(ctx, &write{put: &headwaterv1.PutItemsRequest{Namespace: n.name, Id: "life", Token: nonceToken(wal.NonceOfKey(fmt.Sprintf("%s %d", n.name, n.lives)), 0),
		Items: []*headwaterv1.PutItem{{Key: []byte("n"), Value: fmt.Append(nil, n.lives)}}}})
	if a.outcome == acked {
		n.life = n.lives
	}
	return a.err
}

// verify compares what is served with what the user knows, and learns what it
// did not.
func (n *name) verify(c *conn) error {
	ctx, cancel := callContext()
	defer cancel()
	r, err := c.kv.GetItems(ctx, &headwaterv1.GetItemsRequest{Namespace: n.name, Id: "life"})
	if err != nil && apierrors.FromStatus(err).Reason != apierrors.NamespaceNotFound {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	there, life := err == nil, 0
	if len(r.GetItems()) > 0 {
		if _, err := fmt.Sscan(string(r.Items[0].Value), &life); err != nil {
			return err
		}
	}
	if there != n.there && !n.open {
		return fmt.Errorf("%s: there is %v, and was %v", n.name, there, n.there)
	}
	if there && n.there && n.life != 0 && life != n.life || life > n.lives || !n.there && life != 0 {
		return fmt.Errorf("%s: holds what was written in life %d, and %d was acknowledged (%+v)", n.name, life, n.life, n)
	}
	n.there, n.open, n.life = there, false, life
	return nil
}

// TestKillNamespaces kills the process while namespaces are made and deleted: what
// was acknowledged holds, and no life of a name sees another's items.
func TestKillNamespaces(t *testing.T) {
	_, r := seedOf(t)
	rounds := 4
	if long() {
		rounds = 60
	}
	names := make([]*name, 6)
	for i := range names {
		names[i] = &name{name: fmt.Sprintf("n%d", i)}
	}
	dir := t.TempDir()
	p := start(t, dir)
	changes := 0
	for round := range rounds {
		c := connect(t, p.grpc)
		victim := p
		time.AfterFunc(time.Duration(20+r.IntN(300))*time.Millisecond, func() { victim.signal(t, syscall.SIGKILL) })
		var wg sync.WaitGroup
		counts := make([]int, len(names))
		for i, n := range names {
			pause := rand.New(rand.NewPCG(uint64(round), uint64(i)))
			wg.Go(func() {
				for {
					err := n.change(c)
					if code := status.Code(err); code == codes.Unavailable || code == codes.Canceled {
						return
					}
					if err != nil {
						t.Errorf("%s: %v", n.name, err)
						return
					}
					counts[i]++
					if pause.IntN(4) == 0 {
						if err := n.verify(c); err != nil && !strings.Contains(err.Error(), "Unavailable") {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		wg.Wait()
		<-p.gone
		c.close()
		p = start(t, dir)
		c = connect(t, p.grpc)
		for i, n := range names {
			changes += counts[i]
			if err := n.verify(c); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		c.close()
		if t.Failed() {
			t.Fatalf("%s", p.said())
		}
	}
	t.Logf("%d kills, %d changes acknowledged", rounds, changes)
}
