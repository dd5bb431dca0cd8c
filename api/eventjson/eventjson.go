// Package eventjson writes and reads events of time series as lines of JSON, the way the
// plain HTTP route and the command line have them:
//
//	{"eventTime":"2001-01-01T08:00:00Z","eventId":"7","items":{"delay":12,"ratio":0.5,"tail":"N1"}}
//
// A number without fraction and exponent is an int64, any other a double, which is always
// written with one of the two. Bytes are {"base64":"..."}. true and false are the ints 1
// and 0. The command line adds "series". It guarantees that what it writes it reads as the
// same event; it does not check limits, which is the server's to do.
package eventjson

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Append appends an event as a line without its end. series says whether it names its
// series.
func Append(dst []byte, m *headwaterv1.EventRecord, series bool) []byte {
	dst = append(dst, '{')
	if series {
		dst = append(appendString(append(dst, `"series":`...), m.GetTimeSeriesId()), ',')
	}
	dst = append(dst, `"eventTime":"`...)
	dst = m.GetEventTime().AsTime().AppendFormat(dst, time.RFC3339Nano)
	dst = appendString(append(dst, `","eventId":`...), m.GetEventId())
	dst = AppendItems(append(dst, `,"items":`...), m)
	return append(dst, '}')
}

// AppendItems appends the items of an event as an object.
func AppendItems(dst []byte, m *headwaterv1.EventRecord) []byte {
	dst = append(dst, '{')
	for i, it := range m.GetItems() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, it.GetKey()), ':')
		dst = appendValue(dst, it.GetValue())
	}
	return append(dst, '}')
}

func appendString(dst []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // of a string it has none
		panic("eventjson: marshal a string: " + err.Error())
	}
	return append(dst, b...)
}

func appendValue(dst []byte, v *headwaterv1.EventValue) []byte {
	switch x := v.GetValue().(type) {
	case *headwaterv1.EventValue_String_:
		return appendString(dst, x.String_)
	case *headwaterv1.EventValue_Int:
		return strconv.AppendInt(dst, x.Int, 10)
	case *headwaterv1.EventValue_Double:
		s := strconv.FormatFloat(x.Double, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		return append(dst, s...)
	case *headwaterv1.EventValue_Bytes:
		return append(appendString(append(dst, `{"base64":`...), base64.StdEncoding.EncodeToString(x.Bytes)), '}')
	}
	return append(dst, "null"...)
}

// line is an event as JSON.
type line struct {
	Series    *string         `json:"series"`
	EventTime *string         `json:"eventTime"`
	EventID   string          `json:"eventId"`
	Items     json.RawMessage `json:"items"`
}

// Parse reads an event. series says whether it must name its series; else it must not.
func Parse(b []byte, series bool) (*headwaterv1.EventRecord, error) {
	var l line
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return nil, fmt.Errorf("it is not an event as JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the event")
	}
	m := &headwaterv1.EventRecord{EventId: l.EventID}
	switch {
	case series && l.Series == nil:
		return nil, errors.New("series is missing")
	case !series && l.Series != nil:
		return nil, errors.New("series stands in the path; leave it out")
	case series:
		m.TimeSeriesId = *l.Series
	}
	if l.EventTime == nil {
		return nil, errors.New("eventTime is missing")
	}
	t, err := time.Parse(time.RFC3339Nano, *l.EventTime)
	if err != nil {
		return nil, fmt.Errorf("eventTime is not a time such as 2001-01-01T08:00:00Z: %w", err)
	}
	m.EventTime = timestamppb.New(t)
	if len(l.Items) == 0 {
		return nil, errors.New("items is missing")
	}
	m.Items, err = parseItems(l.Items)
	return m, err
}

// parseItems reads the items in their order, a key that stands twice too.
func parseItems(b []byte) (items []*headwaterv1.EventItem, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("items is not an object")
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("items: %w", err)
		}
		key, ok := t.(string)
		if !ok {
			return nil, errors.New("items is not an object")
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, fmt.Errorf("items: %w", err)
		}
		v, err := parseValue(raw)
		if err != nil {
			return nil, fmt.Errorf("item %.64q: %w", key, err)
		}
		items = append(items, &headwaterv1.EventItem{Key: key, Value: v})
	}
	return items, nil
}

func parseValue(raw json.RawMessage) (*headwaterv1.EventValue, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch x := t.(type) {
	case string:
		return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_String_{String_: x}}, nil
	case bool:
		n := int64(0)
		if x {
			n = 1
		}
		return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Int{Int: n}}, nil
	case json.Number:
		return parseNumber(x.String())
	case json.Delim:
		if x == '{' {
			return parseBytes(raw)
		}
	}
	return nil, errors.New(`a value is a string, a number, true, false or {"base64":"..."}`)
}

func parseNumber(s string) (*headwaterv1.EventValue, error) {
	if !strings.ContainsAny(s, ".eE") {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, errors.New("the number is beyond int64; write it with a fraction to have a double")
		}
		return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Int{Int: n}}, nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, errors.New("the number is beyond a double")
	}
	return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Double{Double: f}}, nil
}

func parseBytes(raw json.RawMessage) (*headwaterv1.EventValue, error) {
	var o struct {
		Base64 *string `json:"base64"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil || o.Base64 == nil {
		return nil, errors.New(`an object is {"base64":"..."} and nothing else`)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(*o.Base64)
	if err != nil {
		return nil, errors.New("base64 is not base64")
	}
	return &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Bytes{Bytes: b}}, nil
}
