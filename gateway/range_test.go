package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

func keyRange(start, end []byte, startExclusive, endInclusive bool) *headwaterv1.Predicate {
	return &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchRange_{MatchRange: &headwaterv1.Predicate_MatchRange{
		Start: start, End: end, StartExclusive: startExclusive, EndInclusive: endInclusive,
	}}}
}

// TestARangeIsReadAndDeletedAsItSays tries every pair of bounds: crossed ones are
// refused, empty ones match nothing, others match the keys between them.
func TestARangeIsReadAndDeletedAsItSays(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.open("plays", "abstraction: kv\nlog: { partitions: 1 }\n")
	keys := []string{"", "\x00", "b", "b\x00", "c", "\xff"}
	items := func(id string) string {
		res, err := r.kv.GetItems(t.Context(), &headwaterv1.GetItemsRequest{Namespace: "plays", Id: id})
		if err != nil {
			t.Fatal(err)
		}
		return keysOf(res.GetItems())
	}
	bounds := [][]byte{nil, {}, {0}, []byte("a"), []byte("b"), []byte("b\x00"), []byte("bb"), {0xff}, {0xff, 0xff}}
	n := 0
	for _, start := range bounds {
		for _, end := range bounds {
			for mode := range 4 {
				startExclusive, endInclusive := mode&1 != 0, mode&2 != 0
				if startExclusive && start == nil || endInclusive && end == nil {
					continue // refused: there is no bound to be in or out
				}
				n++
				what := fmt.Sprintf("from %q (exclusive %v) to %q (inclusive %v)", start, startExclusive, end, endInclusive)
				crossed := start != nil && end != nil && string(start) > string(end)
				var want, left []string
				for _, k := range keys {
					above := start == nil || k > string(start) || k == string(start) && !startExclusive
					below := end == nil || k < string(end) || k == string(end) && endInclusive
					if above && below && !crossed {
						want = append(want, fmt.Sprintf("%q", k))
					} else {
						left = append(left, fmt.Sprintf("%q", k))
					}
				}
				id := fmt.Sprint("id", n)
				var put []*headwaterv1.PutItem
				for _, k := range keys {
					put = append(put, &headwaterv1.PutItem{Key: []byte(k)})
				}
				if _, err := r.kv.PutItems(t.Context(), &headwaterv1.PutItemsRequest{Namespace: "plays", Id: id, Items: put}); err != nil {
					t.Fatal(err)
				}
				for _, descending := range []bool{false, true} {
					p := keyRange(start, end, startExclusive, endInclusive)
					p.GetMatchRange().Descending = &descending
					res, err := r.kv.GetItems(t.Context(), &headwaterv1.GetItemsRequest{Namespace: "plays", Id: id, Predicate: p})
					if crossed {
						if reasonOf(err) != apierrors.BadPredicate || apierrors.From(err).Code != codes.InvalidArgument {
							t.Errorf("read %s: %v", what, err)
						}
						continue
					}
					got := keysOf(res.GetItems())
					if descending {
						got = keysOf(reversed(res.GetItems()))
					}
					if err != nil || got != strings.Join(want, " ") {
						t.Errorf("read %s, descending %v: %s, %v; want %v", what, descending, got, err, want)
					}
				}
				_, err := r.kv.DeleteItems(t.Context(), &headwaterv1.DeleteItemsRequest{
					Namespace: "plays", Id: id, Predicate: keyRange(start, end, startExclusive, endInclusive),
				})
				if crossed != (reasonOf(err) == apierrors.BadPredicate) || !crossed && err != nil {
					t.Errorf("delete %s: %v", what, err)
				}
				if got := items(id); got != strings.Join(left, " ") {
					t.Errorf("delete %s leaves %s, want %v", what, got, left)
				}
			}
		}
	}
}

func keysOf(items []*headwaterv1.Item) string {
	var keys []string
	for _, it := range items {
		keys = append(keys, fmt.Sprintf("%q", it.GetKey()))
	}
	return strings.Join(keys, " ")
}

func reversed(items []*headwaterv1.Item) (out []*headwaterv1.Item) {
	for i := len(items) - 1; i >= 0; i-- {
		out = append(out, items[i])
	}
	return out
}

// TestAnIntervalHasAStartBeforeItsEnd: of whole microseconds, both given.
func TestAnIntervalHasAStartBeforeItsEnd(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.open("counts", "abstraction: counter\ncounter: { windows: [1m] }\n")
	at := func(seconds int64, nanos int32) *timestamppb.Timestamp {
		return &timestamppb.Timestamp{Seconds: seconds, Nanos: nanos}
	}
	series := func(start, end *timestamppb.Timestamp) error {
		_, err := r.counter.GetCountSeries(t.Context(), &headwaterv1.GetCountSeriesRequest{
			Namespace: "counts", Counter: "c", Interval: &headwaterv1.TimeInterval{Start: start, End: end}, Granularity: durationpb.New(time.Minute),
		})
		return err
	}
	letters := func(since, until *timestamppb.Timestamp) error {
		_, err := r.log.ListDeadLetters(t.Context(), &headwaterv1.ListDeadLettersRequest{
			Namespace: "counts", Selection: &headwaterv1.DeadLetterSelection{Since: since, Until: until},
		})
		return err
	}
	const t0 = 1_700_000_000
	for _, c := range []struct {
		what       string
		start, end *timestamppb.Timestamp
		series     string // reason of the refusal
		letters    string
	}{
		{"in order", at(t0, 0), at(t0+60, 0), "", ""},
		{"one microsecond", at(t0, 0), at(t0, 1000), "", ""},
		{"no end", at(t0, 0), nil, apierrors.BadInterval, ""},
		{"no start", nil, at(t0, 0), apierrors.BadInterval, ""},
		{"neither", nil, nil, apierrors.BadInterval, ""},
		{"empty", at(t0, 0), at(t0, 0), apierrors.BadInterval, ""},
		{"crossed", at(t0+1, 0), at(t0, 0), apierrors.BadInterval, apierrors.BadSelection},
		{"crossed by a microsecond", at(t0, 1000), at(t0, 0), apierrors.BadInterval, apierrors.BadSelection},
		{"empty where it is cut", at(t0, 1), at(t0, 999), apierrors.BadInterval, ""},
		{"crossed in what is cut off only", at(t0, 999), at(t0, 1), apierrors.BadInterval, ""},
		{"no time", at(t0, -1), at(t0+60, 0), apierrors.BadInterval, apierrors.BadSelection},
		{"no time", at(t0, 0), at(1<<60, 0), apierrors.BadInterval, apierrors.BadSelection},
	} {
		if got := reasonOf(series(c.start, c.end)); got != c.series {
			t.Errorf("series, %s: %q, want %q", c.what, got, c.series)
		}
		if got := reasonOf(letters(c.start, c.end)); got != c.letters {
			t.Errorf("dead letters, %s: %q, want %q", c.what, got, c.letters)
		}
	}
}
