package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Consistency is how fresh a read must be.
type Consistency int

// The consistencies.
const (
	// AsConfigured is what the namespace says in kv.consistency, and not older than
	// what this client has written. The default.
	AsConfigured Consistency = iota
	// ReadYourWrites sees all that this client wrote; when it has written nothing,
	// what the serving process has acknowledged.
	ReadYourWrites
	// Latest sees everything that anyone was told is written before the read began.
	Latest
	// Eventual sees whatever is applied, at once. Nothing is waited for but
	// ReadOptions.After.
	Eventual
)

var consistencies = [...]headwaterv1.Consistency{
	AsConfigured: headwaterv1.Consistency_CONSISTENCY_UNSPECIFIED, ReadYourWrites: headwaterv1.Consistency_READ_YOUR_WRITES, Latest: headwaterv1.Consistency_LATEST, Eventual: headwaterv1.Consistency_EVENTUAL,
}

// AsOf is what an answer is exact as of.
type AsOf struct {
	// Position goes on from there: in Log.Tail what is written later, and a read
	// that is given it sees at least as much. Every write that the answer lacks is
	// behind it.
	Position string
	// Time: what was acknowledged by then is in the answer.
	Time time.Time
}

func asOf(m *headwaterv1.AsOf) AsOf {
	return AsOf{Position: m.GetPosition(), Time: timeOf(m.GetTime())}
}

// note sets to, unless that is nil.
func (a AsOf) note(to *AsOf) {
	if to != nil {
		*to = a
	}
}

// Get reads one item: ErrNotFound when it is absent.
func (k *KV) Get(ctx context.Context, id, key string) (Item, error) {
	return k.GetWith(ctx, id, key, ReadOptions{})
}

// GetWith is Get with the Consistency, After and OmitValues of o.
func (k *KV) GetWith(ctx context.Context, id, key string, o ReadOptions) (Item, error) {
	o.Keys, o.Range, o.Descending, o.Limit = []string{key}, nil, false, 0
	page, err := k.Page(ctx, id, o, "")
	if err != nil {
		return Item{}, err
	}
	if len(page.Items) == 0 {
		return Item{}, &Error{Code: codes.NotFound, Reason: apierrors.ItemNotFound, Message: "there is no such item, or it has expired"}
	}
	return k.whole(ctx, id, page.Items[0], &o)
}

// freshness is what a read asks for beside what is read.
type freshness struct {
	consistency headwaterv1.Consistency
	after       []string
	session     *session
	fromSession string
}

func (c *Client) freshness(namespace string, want Consistency, after []string) (freshness, error) {
	if want < 0 || int(want) >= len(consistencies) {
		return freshness{}, invalid(apierrors.BadConsistency, "the consistency is not one of this package")
	}
	f := freshness{consistency: consistencies[want], after: after}
	if want == Latest || want == Eventual || c.cfg.NoSession {
		return f, nil
	}
	f.session = c.session(namespace)
	if f.session == nil {
		if c.sessionsFull.Load() {
			f.consistency = headwaterv1.Consistency_LATEST
		}
		return f, nil
	}
	p, latest := f.session.after()
	if latest {
		f.consistency = headwaterv1.Consistency_LATEST
	}
	if p != "" {
		f.fromSession = p
		f.after = append(after[:len(after):len(after)], p)
	}
	return f, nil
}

// read does a unary read that waits for the session's position. do sends it
// with a freshness. A position of a former life of the namespace is forgotten,
// and the read done without it.
func (c *Client) read(ctx context.Context, namespace string, want Consistency, after []string, do func(context.Context, *freshness, ...grpc.CallOption) error) error {
	f, err := c.freshness(namespace, want, after)
	if err != nil {
		return err
	}
	for {
		err := c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) error { return do(ctx, &f, opts...) })
		if err == nil || !c.formerLife(err, &f, after) {
			return err
		}
	}
}

// formerLife reports whether err is due to the session's position being of a
// former life of the namespace, and takes it out of f and the session.
func (c *Client) formerLife(err error, f *freshness, after []string) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Reason != apierrors.OtherIncarnation || f.fromSession == "" {
		return false
	}
	f.session.forget(f.fromSession)
	f.fromSession, f.after = "", after
	return true
}
