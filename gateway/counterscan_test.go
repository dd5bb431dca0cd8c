package gateway

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// scanned is a request as the scanners see it.
func scanned(data []byte) (*headwaterv1.AddCountsRequest, error) {
	var head addsHead
	if err := head.scan(data); err != nil {
		return nil, err
	}
	out := &headwaterv1.AddCountsRequest{Namespace: string(head.namespace), Token: head.token}
	sc := addsScanner{rest: data}
	for {
		more, err := sc.next()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		add := &headwaterv1.CounterAdd{Counter: string(sc.counter), Delta: sc.delta, Token: sc.token}
		if at := sc.event(); at != nil {
			add.EventTime = &timestamppb.Timestamp{Seconds: at.Seconds, Nanos: at.Nanos}
		}
		if ttl := sc.lifetime(); ttl != nil {
			add.Ttl = &durationpb.Duration{Seconds: ttl.Seconds, Nanos: ttl.Nanos}
		}
		out.Adds = append(out.Adds, add)
	}
	if len(out.Adds) != head.adds {
		return nil, fmt.Errorf("%d adds, and %d were counted", len(out.Adds), head.adds)
	}
	return out, nil
}

// compareDecoders returns what differs between the generated decoder and the
// scanners.
func compareDecoders(data []byte) error {
	want := &headwaterv1.AddCountsRequest{}
	werr := proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, want) // what is unknown the scanners do not keep
	got, gerr := scanned(data)
	if (werr == nil) != (gerr == nil) {
		return fmt.Errorf("%x: scanned: %w, generated: %w", data, gerr, werr)
	}
	if werr != nil {
		return nil
	}
	if !proto.Equal(got, want) {
		return fmt.Errorf("%x:\nscanned   %v\ngenerated %v", data, got, want)
	}
	return nil
}

func FuzzAddsScanner(f *testing.F) {
	for i := range 50 {
		f.Add(rapid.Custom(func(t *rapid.T) []byte { return drawRequest(t) }).Example(i))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := compareDecoders(data); err != nil {
			t.Fatal(err)
		}
	})
}

func TestScannersReadWhatTheGeneratedDecoderReads(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		data := drawRequest(t)
		if rapid.IntRange(0, 3).Draw(t, "break") == 0 && len(data) > 0 {
			i := rapid.IntRange(0, len(data)-1).Draw(t, "at")
			data[i] ^= rapid.Byte().Draw(t, "flip")
			data = data[:rapid.IntRange(i, len(data)).Draw(t, "cut")]
		}
		if err := compareDecoders(data); err != nil {
			t.Fatal(err)
		}
	})
}

// drawRequest draws fields in any order, twice, unknown and of wrong types.
func drawRequest(t *rapid.T) []byte {
	return drawMessage(t, 8, map[protowire.Number]func(*rapid.T) []byte{1: drawText, 2: drawAdd, 3: drawToken})
}

func drawAdd(t *rapid.T) []byte {
	return drawMessage(t, 7, map[protowire.Number]func(*rapid.T) []byte{1: drawText, 2: nil, 3: drawTime, 4: drawTime, 5: drawToken})
}

func drawToken(t *rapid.T) []byte {
	return drawMessage(t, 4, map[protowire.Number]func(*rapid.T) []byte{1: drawTime, 2: drawText, 3: drawText})
}

func drawTime(t *rapid.T) []byte {
	return drawMessage(t, 4, map[protowire.Number]func(*rapid.T) []byte{1: nil, 2: nil})
}

func drawText(t *rapid.T) []byte {
	if rapid.IntRange(0, 30).Draw(t, "utf8") == 0 {
		return rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "bytes")
	}
	return []byte(rapid.StringN(0, 5, -1).Draw(t, "text"))
}

// drawMessage draws up to n fields of the given numbers: of a nil function a
// varint, else bytes.
func drawMessage(t *rapid.T, n int, fields map[protowire.Number]func(*rapid.T) []byte) (b []byte) {
	for range rapid.IntRange(0, n).Draw(t, "fields") {
		num := protowire.Number(rapid.IntRange(1, len(fields)).Draw(t, "number"))
		draw := fields[num]
		switch rapid.IntRange(0, 30).Draw(t, "oddity") {
		case 0: // unknown
			num = rapid.SampledFrom([]protowire.Number{9, 16, 2047, protowire.MaxValidNumber}).Draw(t, "unknown")
		case 1: // of another type
			b = protowire.AppendTag(b, num, protowire.Fixed32Type)
			b = protowire.AppendFixed32(b, rapid.Uint32().Draw(t, "fixed32"))
			continue
		case 2:
			b = protowire.AppendTag(b, num, protowire.Fixed64Type)
			b = protowire.AppendFixed64(b, rapid.Uint64().Draw(t, "fixed64"))
			continue
		case 3:
			b = protowire.AppendTag(b, num, protowire.StartGroupType)
			b = protowire.AppendTag(b, 1, protowire.VarintType)
			b = protowire.AppendVarint(b, rapid.Uint64().Draw(t, "in a group"))
			b = protowire.AppendTag(b, num, protowire.EndGroupType)
			continue
		case 4:
			if draw == nil {
				draw = drawText
			} else {
				draw = nil
			}
		}
		if draw == nil {
			b = protowire.AppendTag(b, num, protowire.VarintType)
			b = protowire.AppendVarint(b, rapid.Uint64().Draw(t, "varint"))
			continue
		}
		b = protowire.AppendTag(b, num, protowire.BytesType)
		b = protowire.AppendBytes(b, draw(t))
	}
	return b
}

// TestScannersRefuseWhatTheGeneratedDecoderRefuses: cases that drawing seldom
// meets.
func TestScannersRefuseWhatTheGeneratedDecoderRefuses(t *testing.T) {
	t.Parallel()
	add := func(b ...byte) []byte { return append([]byte{0x12, byte(len(b))}, b...) }
	for what, data := range map[string][]byte{
		"field 0":                   {0x00, 0x01},
		"field beyond the last":     protowire.AppendVarint(protowire.AppendVarint(nil, 1<<32), 1),
		"reserved type":             {0x0e},
		"end without a group":       {0x0c},
		"end of another group":      {0x0b, 0x14},
		"length beyond the end":     {0x0a, 0x05, 'a'},
		"length beyond int":         append([]byte{0x0a}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
		"varint of eleven bytes":    append([]byte{0x20}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
		"varint without an end":     {0x20, 0x80},
		"namespace, not UTF-8":      {0x0a, 0x01, 0xff},
		"overwritten, not UTF-8":    {0x0a, 0x01, 0xff, 0x0a, 0x01, 'a'},
		"counter, not UTF-8":        add(0x0a, 0x01, 0xff),
		"token key, not UTF-8":      {0x1a, 0x03, 0x1a, 0x01, 0xff},
		"an add's key, not UTF-8":   add(0x2a, 0x03, 0x1a, 0x01, 0xff),
		"event time cut":            add(0x1a, 0x01, 0x08),
		"delta cut":                 add(0x10),
		"token cut":                 {0x1a, 0x02, 0x12, 0x05},
		"broken after what is read": append(add(0x0a, 0x01, 'a'), 0x0a),
	} {
		if proto.Unmarshal(data, &headwaterv1.AddCountsRequest{}) == nil {
			t.Errorf("%s: the generated decoder takes it", what)
		}
		if _, err := scanned(data); err == nil {
			t.Errorf("%s: the scanners take it", what)
		}
	}
}

func BenchmarkParseAdds(b *testing.B) {
	req := &headwaterv1.AddCountsRequest{Namespace: "plays"}
	for i := range 1000 {
		req.Adds = append(req.Adds, &headwaterv1.CounterAdd{Counter: fmt.Sprintf("counter-%06d", i*97%100_000), Delta: 1})
	}
	data, err := proto.Marshal(req)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("generated", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var m headwaterv1.AddCountsRequest
			if err := proto.Unmarshal(data, &m); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("scanned", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var head addsHead
			if err := head.scan(data); err != nil {
				b.Fatal(err)
			}
			sc := addsScanner{rest: data}
			for {
				more, err := sc.next()
				if err != nil {
					b.Fatal(err)
				}
				if !more {
					break
				}
			}
		}
	})
}
