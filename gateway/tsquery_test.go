package gateway

import (
	"testing"

	"google.golang.org/protobuf/proto"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/timeseries"
)

// FuzzEventQuery: a query of any bytes is refused, or judges any event, and the opposite of its
// negation.
func FuzzEventQuery(f *testing.F) {
	one := &headwaterv1.EventQuery{Equals: &headwaterv1.EventEquals{Key: "k", Value: &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Int{Int: 1}}}}
	for _, q := range []*headwaterv1.EventQuery{
		one, {Not: one}, {And: []*headwaterv1.EventQuery{one, {Not: one}}},
		{Exists: &headwaterv1.EventExists{Key: "k"}},
	} {
		b, err := proto.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, int64(1), "x")
	}
	f.Fuzz(func(t *testing.T, b []byte, i int64, s string) {
		q := &headwaterv1.EventQuery{}
		if proto.Unmarshal(b, q) != nil {
			return
		}
		c, err := parseQuery(q)
		if err != nil {
			return
		}
		not := &timeseries.Condition{Op: timeseries.Not, Kids: []timeseries.Condition{*c}}
		for _, items := range [][]timeseries.Item{
			nil,
			{{Key: []byte("k"), Value: timeseries.Value{Kind: timeseries.Int, Int: i}}},
			{{Key: []byte("k"), Value: timeseries.Value{Kind: timeseries.Double, Double: float64(i) / 3}}},
			{{Key: []byte("k"), Value: timeseries.Value{Kind: timeseries.String, Text: []byte(s)}}, {Key: []byte("l"), Value: timeseries.Value{Kind: timeseries.Bytes, Text: b}}},
		} {
			if e := (&timeseries.Event{Items: items}); c.Match(e) == not.Match(e) {
				t.Fatalf("%v and its negation judge %v alike", q, items)
			}
		}
	})
}
