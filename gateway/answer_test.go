package gateway

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

// TestAListOfNamespacesEndsWhereAClientStopsReading: their documents are bounded,
// and a thousand of them are not.
func TestAListOfNamespacesEndsWhereAClientStopsReading(t *testing.T) {
	t.Parallel()
	broker, err := pebblelog.Open(pebblelog.Config{FS: vfs.NewMem(), Dir: "log", FreeSpaceFloor: -1,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := broker.Close(); err != nil {
			t.Error(err)
		}
	}()
	reg, err := namespace.Open(t.Context(), namespace.Options{Broker: broker,
		Defaults: namespace.Defaults{Partitions: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	owners := strings.Repeat(strings.Repeat("o", 256)+", ", 32)
	const all = 700
	for i := range all {
		doc := fmt.Sprintf("namespace: n%d\nabstraction: log\nowners: [%s]\n", i, owners)
		if _, err := reg.Apply(t.Context(), doc, namespace.ApplyOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s := NewNamespaces(reg, nil)
	seen, pages := map[string]bool{}, 0
	for token := ""; ; {
		res, err := s.ListNamespaces(t.Context(), &headwaterv1.ListNamespacesRequest{PageSize: proto.Int32(1000),
			PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		if n := proto.Size(res); n > MaxAnswerBytes {
			t.Errorf("a page has %d bytes", n)
		}
		pages++
		for _, n := range res.GetNamespaces() {
			seen[n.GetNamespace()] = true
		}
		if token = res.GetNextPageToken(); token == "" {
			break
		}
	}
	if len(seen) != all || pages < 2 {
		t.Errorf("%d namespaces on %d pages", len(seen), pages)
	}
}

func TestWhatIsNotPagedIsWholeOrRefused(t *testing.T) {
	t.Parallel()
	m := &headwaterv1.StatusResponse{Incarnation: strings.Repeat("i", MaxAnswerBytes-5)}
	if got, err := whole(m, "x"); err != nil || got != m || proto.Size(m) > MaxAnswerBytes {
		t.Errorf("%d bytes: %v", proto.Size(m), err)
	}
	m.Incarnation += "i"
	_, err := whole(m, "ask for one namespace")
	if e := apierrors.From(err); err == nil || e.Reason != apierrors.AnswerTooLarge || !strings.Contains(e.Message,
		"ask for one namespace") {
		t.Errorf("%d bytes: %v", proto.Size(m), err)
	}
}

// TestCountsFitTheirAnswer: the most names, with the longest that a count can be.
func TestCountsFitTheirAnswer(t *testing.T) {
	t.Parallel()
	at := wal.NewPosition(strings.Repeat("n", 48), wal.Incarnation{1}, 1<<16, 1<<62)
	count := &headwaterv1.Count{
		Value: -1, Held: -1, Accuracy: headwaterv1.Count_ACCURATE, Pending: -1,
		AsOf: &headwaterv1.AsOf{Position: at.String(), Time: timeMessage(-1)},
	}
	out := &headwaterv1.GetCountsResponse{Counts: map[string]*headwaterv1.Count{}, AsOf: count.GetAsOf()}
	for i := range MaxCounts {
		out.Counts[fmt.Sprintf("%0*d", MaxCountNames/MaxCounts, i)] = count
	}
	if n := proto.Size(out); n > MaxAnswerBytes-pageTail {
		t.Errorf("the largest answer has %d bytes", n)
	}
}
