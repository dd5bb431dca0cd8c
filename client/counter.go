package client

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Counter is a namespace of counters, each an int64 under a name. It costs
// nothing to make and needs no closing.
type Counter struct {
	c         *Client
	namespace string
}

// Counter returns a handle on a namespace whose abstraction is counter. It does
// not ask the server whether there is one.
func (c *Client) Counter(namespace string) *Counter { return &Counter{c: c, namespace: namespace} }

// Namespace is the name of the namespace.
func (n *Counter) Namespace() string { return n.namespace }

// MaxAdds is how many adds AddAll takes, and how many counters GetMany.
const MaxAdds = 10_000

// maxCounterName is in bytes of UTF-8.
const maxCounterName = 1024

// maxAddBytes leaves room in a request, which has 8 MiB, for what is not adds.
const maxAddBytes = 7 << 20

// Accuracy is how right a count is.
type Accuracy int

// The accuracies.
const (
	// CountAsConfigured is what the namespace says, and not older than what this
	// client has written. The default.
	CountAsConfigured Accuracy = iota
	// CountBestEffort is the latest rollup, at once, of a namespace whose adds are
	// acknowledged before they are durable.
	CountBestEffort
	// CountEventual is the latest rollup, at once: what was acknowledged is in it
	// or pending. Nothing is waited for but CountOptions.After.
	CountEventual
	// CountAccurate has everything in it that was acknowledged before the read:
	// linearizable per counter. A namespace that is best_effort refuses it.
	CountAccurate
)

var accuracies = [...]headwaterv1.Count_Accuracy{
	CountAsConfigured: headwaterv1.Count_ACCURACY_UNSPECIFIED, CountBestEffort: headwaterv1.Count_BEST_EFFORT,
	CountEventual: headwaterv1.Count_EVENTUAL, CountAccurate: headwaterv1.Count_ACCURATE,
}

var accuracyNames = [...]string{CountAsConfigured: "", CountBestEffort: "BEST_EFFORT", CountEventual: "EVENTUAL", CountAccurate: "ACCURATE"}

// String is the word of the API, "ACCURATE"; empty for CountAsConfigured.
func (a Accuracy) String() string {
	if a < 0 || int(a) >= len(accuracyNames) {
		return fmt.Sprintf("Accuracy(%d)", int(a))
	}
	return accuracyNames[a]
}

// Count is a counter's value and how right it is.
type Count struct {
	Value int64
	// Held is the sum of the reservations that are held. Value less Held is
	// available.
	Held     int64
	Accuracy Accuracy
	// Position and Time are what Value and Held are exact as of.
	Position string
	Time     time.Time
	// Pending is how many records of the counter's partition are appended and not
	// in it, at most; -1: unknown.
	Pending int64
}

func countOf(m *headwaterv1.Count) Count {
	return Count{
		Value: m.GetValue(), Held: m.GetHeld(), Accuracy: Accuracy(m.GetAccuracy()), Position: m.GetAsOf().GetPosition(),
		Time: timeOf(m.GetAsOf().GetTime()), Pending: m.GetPending(),
	}
}

func timeOf(m *timestamppb.Timestamp) time.Time {
	if m == nil {
		return time.Time{}
	}
	return m.AsTime()
}

// CounterAdd is one delta for one counter.
type CounterAdd struct {
	// Counter is the name, 1 to 1,024 bytes of UTF-8.
	Counter string
	Delta   int64
	// EventTime is when what is counted happened, for Series; zero: when the
	// server accepts it.
	EventTime time.Time
	// TTL above 0: if this add creates the counter, the counter disappears so long
	// after it, whatever is added later. Ignored by a counter that exists.
	TTL time.Duration
	// Token of this add of this counter, whatever call it comes in; zero: that of
	// the call.
	Token Token
}

// Event times are after 1970 and what a Timestamp of the API can hold.
var (
	beforeEventTime = time.Unix(0, 0)
	endOfEventTime  = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
)

// The bounds of a time to live.
const (
	minTTL = time.Millisecond
	maxTTL = 10 * 365 * 24 * time.Hour
)

func checkCounter(name string) error {
	switch {
	case len(name) == 0 || len(name) > maxCounterName:
		return invalid(apierrors.BadCounter, fmt.Sprintf("the counter's name has %d bytes; use 1 to %d", len(name), maxCounterName))
	case !utf8.ValidString(name):
		return invalid(apierrors.BadUTF8, "the counter's name is not UTF-8; encode it, in hex or base64 for example")
	}
	return nil
}

// check finds everything that a server would refuse about the add itself, so
// that a request that several callers share is not refused for one of them.
func (a *CounterAdd) check() error {
	if err := checkCounter(a.Counter); err != nil {
		return err
	}
	if !a.EventTime.IsZero() && (!a.EventTime.After(beforeEventTime) || !a.EventTime.Before(endOfEventTime)) {
		return invalid(apierrors.BadEventTime, fmt.Sprintf("the event time is in the year %d; use a time after 1970", a.EventTime.UTC().Year()))
	}
	if a.TTL != 0 && (a.TTL < minTTL || a.TTL > maxTTL) {
		return invalid(apierrors.BadTTL, fmt.Sprintf("the ttl is %v; use %v to %v, or 0 for none", a.TTL, minTTL, maxTTL))
	}
	return a.Token.check()
}

// check refuses what cannot be a token.
func (t *Token) check() error {
	if len(t.Key) > maxTokenKey || !utf8.ValidString(t.Key) {
		return invalid(apierrors.BadToken, fmt.Sprintf("the token's key has %d bytes; use 1 to %d bytes of UTF-8", len(t.Key), maxTokenKey))
	}
	return nil
}

// maxTokenKey is in bytes.
const maxTokenKey = 128

// Add adds delta to a counter and returns when the add is as durable as
// WriteResult.Durability says. Concurrent adds to a namespace share requests;
// see AddWith.
func (n *Counter) Add(ctx context.Context, counter string, delta int64) (WriteResult, error) {
	return n.add(ctx, &CounterAdd{Counter: counter, Delta: delta}, false)
}

// AddOptions are about one add.
type AddOptions struct {
	// EventTime, TTL and Token are those of CounterAdd.
	EventTime time.Time
	TTL       time.Duration
	Token     Token
	// Alone sends the add in a request of its own, so that WriteResult.Duplicate
	// tells whether its token was known.
	Alone bool
}

// AddWith is Add with options.
//
// A request that several adds share goes under one token, made by the client,
// and is retried as a whole with it, so that a lost answer counts nothing twice.
// That token is of the request, not of the add: the add alone cannot be sent
// again under it. An add whose context may end before its answer, or that is to
// be repeated after a restart, needs a Token of its own: it keeps it in whatever
// request it travels, Error.Token names it, and sending the add again with it
// counts once. Of such an add Duplicate is PerhapsRepeated unless it travels
// alone. Error.Token is zero for an add that brought none and shared a request.
//
// An add that the server refuses for a reason of its own fails alone; the others
// of its request are sent again without it.
func (n *Counter) AddWith(ctx context.Context, counter string, delta int64, o AddOptions) (WriteResult, error) {
	return n.add(ctx, &CounterAdd{Counter: counter, Delta: delta, EventTime: o.EventTime, TTL: o.TTL, Token: o.Token}, o.Alone)
}

func (n *Counter) add(ctx context.Context, a *CounterAdd, alone bool) (WriteResult, error) {
	if err := a.check(); err != nil {
		return WriteResult{}, err
	}
	if alone || n.c.cfg.BatchInFlight < 0 {
		return n.addAlone(ctx, a)
	}
	if !a.Token.IsZero() {
		a.Token = n.c.complete(a.Token)
	}
	return n.c.adder(n.namespace).add(ctx, a)
}

func (n *Counter) addAlone(ctx context.Context, a *CounterAdd) (WriteResult, error) {
	token := n.c.complete(a.Token)
	req := &headwaterv1.AddCountRequest{
		Namespace: n.namespace, Counter: a.Counter, Delta: a.Delta, EventTime: timeMessage(a.EventTime), Ttl: ttlMessage(a.TTL), Token: token.message(),
	}
	var res *headwaterv1.AddCountResponse
	err := n.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = n.c.counters.AddCount(ctx, req, opts...)
		return err
	})
	if err != nil {
		return WriteResult{}, err
	}
	return n.c.result(n.namespace, res.GetResult(), token, nil), nil
}

func timeMessage(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// CounterWriteOptions are about a whole write to counters.
type CounterWriteOptions struct {
	// Token names the write; zero: the client makes one.
	Token Token
}

// AddAll adds to many counters, 1 to MaxAdds, in one request under one token,
// which covers the adds that bring none. A counter that is named twice is added
// to twice. adds is not kept. After an error whose outcome is unknown a part may
// have been added: the same adds with Error.Token add the rest.
func (n *Counter) AddAll(ctx context.Context, adds []CounterAdd, o CounterWriteOptions) (WriteResult, error) {
	if len(adds) == 0 || len(adds) > MaxAdds {
		return WriteResult{}, invalid(apierrors.TooManyItems, fmt.Sprintf("there are %d adds; use 1 to %d", len(adds), MaxAdds))
	}
	if err := o.Token.check(); err != nil {
		return WriteResult{}, err
	}
	buf := framePool.Get().(*[]byte)
	defer framePool.Put(buf)
	*buf = appendNamespace((*buf)[:0], n.namespace)
	for i := range adds {
		a := &adds[i]
		if err := a.check(); err != nil {
			e := err.(*Error) //nolint:errorlint // check makes it here
			e.Message = fmt.Sprintf("adds[%d]: %s", i, e.Message)
			return WriteResult{}, e
		}
		// A token without a time has the call's: one of now would make another request
		// of the same adds when they are sent again.
		*buf = appendAdd(*buf, a)
	}
	token := n.c.complete(o.Token)
	*buf = appendCallToken(*buf, &token)
	var res headwaterv1.AddCountsResponse
	err := n.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) error {
		return n.c.addCounts(ctx, *buf, &res, opts...)
	})
	if err != nil {
		return WriteResult{}, err
	}
	return n.c.result(n.namespace, res.GetResult(), token, nil), nil
}

// Clear sets a counter to 0 at its place in the log: what precedes it is gone,
// what follows counts. Reservations that are held stay held.
func (n *Counter) Clear(ctx context.Context, counter string, o CounterWriteOptions) (WriteResult, error) {
	if err := checkCounter(counter); err != nil {
		return WriteResult{}, err
	}
	token := n.c.complete(o.Token)
	req := &headwaterv1.ClearCountRequest{Namespace: n.namespace, Counter: counter, Token: token.message()}
	var res *headwaterv1.ClearCountResponse
	err := n.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = n.c.counters.ClearCount(ctx, req, opts...)
		return err
	})
	if err != nil {
		return WriteResult{}, err
	}
	return n.c.result(n.namespace, res.GetResult(), token, nil), nil
}
