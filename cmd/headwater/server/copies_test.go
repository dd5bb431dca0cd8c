package server

import (
	"context"
	"testing"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
)

// betweenLooks is an owner that has something happen between the first time that tokens are looked for and the second.
type betweenLooks struct {
	consumers.Owner[counter.TokenEntry]
	looks int
	do    func()
}

func (o *betweenLooks) Tokens(ctx context.Context, tokens []consumers.TokenAt) []consumers.Found[counter.TokenEntry] {
	if o.looks++; o.looks == 2 {
		o.do()
	}
	return o.Owner.Tokens(ctx, tokens)
}

// TestACopyBetweenTheLooks: a call whose adds bring their own tokens looks for its own token and then for theirs. A copy of
// it that another gateway takes in between has the place that is told, and this one does not say that its own is.
func TestACopyBetweenTheLooks(t *testing.T) {
	t.Parallel()
	c := newSplit(t, kafkaFake(t))
	two := c.open(t, Gateway, "")
	defer closeServer(t, two)
	owned(t, c.gateway)
	owned(t, two)
	const body = `"adds":[{"counter":"c","delta":1,"token":{"key":"one"}},{"counter":"c","delta":2,"token":{"key":"two"}}],"token":{"key":"all"}`
	db := spaceOf(t, two, "demo-counter").ns.Counter
	var first reply
	db.Owner = &betweenLooks{Owner: db.Owner, do: func() {
		first = onCounter(t, c.gateway, "AddCounts", body)
		is(t, "the count", onCounter(t, c.gateway, "GetCount", `"counter":"c","accuracy":"ACCURATE"`), "count.value", "3")
	}}
	second := onCounter(t, two, "AddCounts", body)
	is(t, "the first", first, "result.duplicate", "NO")
	is(t, "a copy", second)
	same := second.field(t, "result.position") == first.field(t, "result.position")
	if d := second.field(t, "result.duplicate"); d != "UNKNOWN" && (d != "YES" || !same) {
		t.Errorf("the first was told %s, a copy %s", first, second)
	}
	is(t, "the count", onCounter(t, two, "GetCount", `"counter":"c","accuracy":"ACCURATE"`), "count.value", "3")
}
