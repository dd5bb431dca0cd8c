package eventjson

import (
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// TestLinesKeepWhatTheySay: what is written is read as the same event, types too.
func TestLinesKeepWhatTheySay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &headwaterv1.EventRecord{
			TimeSeriesId: rapid.String().Draw(t, "series"), EventId: rapid.String().Draw(t, "id"),
			EventTime: timestamppb.New(time.UnixMicro(rapid.Int64Range(-62135596800e6, 253402300799e6).Draw(t, "time"))),
		}
		for range rapid.IntRange(0, 5).Draw(t, "items") {
			v := &headwaterv1.EventValue{}
			switch rapid.IntRange(0, 3).Draw(t, "type") {
			case 0:
				v.Value = &headwaterv1.EventValue_Int{Int: rapid.Int64().Draw(t, "int")}
			case 1:
				v.Value = &headwaterv1.EventValue_Double{Double: rapid.SampledFrom([]float64{0, 2, -2.5, 1e300, 5e-324, math.MaxFloat64}).Draw(t, "double")}
			case 2:
				v.Value = &headwaterv1.EventValue_String_{String_: rapid.String().Draw(t, "string")}
			case 3:
				v.Value = &headwaterv1.EventValue_Bytes{Bytes: rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")}
			}
			m.Items = append(m.Items, &headwaterv1.EventItem{Key: rapid.String().Draw(t, "key"), Value: v})
		}
		b := Append(nil, m, true)
		back, err := Parse(b, true)
		if err != nil || !proto.Equal(m, back) {
			t.Fatalf("%s reads as %v, %v", b, back, err)
		}
	})
}

func TestBadLines(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		``: "not an event",
		`{"eventTime":"2001-01-01T00:00:00Z","items":{"a":1}} x`:     "follows",
		`{"eventTime":"2001-01-01T00:00:00Z","items":{"a":1},"b":2}`: "unknown field",
		`{"eventTime":"yesterday","items":{"a":1}}`:                  "eventTime",
		`{"items":{"a":1}}`:                                                       "eventTime is missing",
		`{"eventTime":"2001-01-01T00:00:00Z"}`:                                    "items is missing",
		`{"eventTime":"2001-01-01T00:00:00Z","items":[1]}`:                        "not an object",
		`{"eventTime":"2001-01-01T00:00:00Z","items":{"a":null}}`:                 "a value is",
		`{"eventTime":"2001-01-01T00:00:00Z","items":{"a":[1]}}`:                  "a value is",
		`{"eventTime":"2001-01-01T00:00:00Z","items":{"a":{"b":1}}}`:              "base64",
		`{"eventTime":"2001-01-01T00:00:00Z","items":{"a":99999999999999999999}}`: "int64",
		`{"eventTime":"2001-01-01T00:00:00Z","items":{"a":1e999}}`:                "double",
		`{"series":"s","eventTime":"2001-01-01T00:00:00Z","items":{}}`:            "in the path",
	} {
		if _, err := Parse([]byte(line), false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
	if _, err := Parse([]byte(`{"eventTime":"2001-01-01T00:00:00Z","items":{}}`), true); err == nil || !strings.Contains(err.Error(), "series is missing") {
		t.Errorf("without a series: %v", err)
	}
}
