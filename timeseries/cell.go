package timeseries

import (
	"crypto/sha256"
	"math"
	"math/bits"
	"slices"

	"github.com/apache/datasketches-go/common"
	"github.com/apache/datasketches-go/kll"
	"github.com/axiomhq/hyperloglog"
)

const (
	// MaxExact is how many values of a group Distinct and Quantile look at exactly. Beyond
	// it they estimate.
	MaxExact = 10_000

	// kllK gives a Quantile a rank that is within 0.1 % of the one asked for, at a
	// confidence of 99 %: ItemsSketch.GetNormalizedRankError says 0.07 %. kllBytes is what
	// it takes.
	kllK     = 4096
	kllBytes = 112 << 10

	// hllBytes is what HyperLogLog with 2^14 registers takes. Its standard error is
	// 1.04/sqrt(2^14), 0.8 %.
	hllBytes = 20 << 10

	cellBytes = 112
)

// cell is one aggregation of one group.
type cell struct {
	n uint64 // of the events that it looks at
	// A sum is exact in ints, 128 bits of two's complement, and compensated in doubles
	// (Neumaier, Zeitschrift fuer angewandte Mathematik und Mechanik 54, 1974).
	high      int64
	low       uint64
	sum, rest float64

	number float64 // of Min, Max, First, Last
	place  *Place  // of First, Last

	// Distinct.
	set map[string]struct{}
	hll *hyperloglog.Sketch

	// Quantile.
	numbers []float64
	kll     *kll.ItemsSketch[float64]
}

// add looks at one event.
func (c *cell) add(s *GroupSpec, a *Aggregation, e *Event) error {
	if len(a.Key) == 0 {
		c.n++
		return nil
	}
	var v *Value
	if string(a.Key) == SeriesKey {
		v = &Value{Kind: String, Text: e.Series}
	} else if v = e.Item(a.Key); v == nil {
		return nil
	}
	switch a.Op {
	case Count:
		c.n++
		return nil
	case Distinct:
		c.n++
		return c.addDistinct(s, v)
	case Sum, Min, Max, Avg, First, Last, Quantile:
	}
	var number float64
	switch v.Kind {
	case Int:
		number = float64(v.Int)
	case Double:
		number = v.Double
	case String, Bytes:
		return nil
	}
	c.n++
	switch a.Op {
	case Sum, Avg:
		if v.Kind == Int {
			c.addInt(v.Int>>63, uint64(v.Int))
		} else {
			c.addDouble(number)
		}
	case Min, Max:
		c.extreme(a.Op, number)
	case First, Last:
		at := Place{Time: e.Time, Series: e.Series, ID: e.ID}
		if c.place == nil || c.place.Compare(&at) < 0 == (a.Op == First) {
			c.number = number
			if c.place == nil {
				c.place = &Place{}
			}
			*c.place = Place{Time: at.Time, Series: append(c.place.Series[:0], at.Series...), ID: append(c.place.ID[:0], at.ID...)}
		}
	case Quantile:
		return c.addNumber(s, number)
	case Count, Distinct:
	}
	return nil
}

func (c *cell) addInt(high int64, low uint64) {
	var carry uint64
	c.low, carry = bits.Add64(c.low, low, 0)
	c.high += high + int64(carry)
}

func (c *cell) addDouble(x float64) {
	t := c.sum + x
	if math.Abs(c.sum) >= math.Abs(x) {
		c.rest += c.sum - t + x
	} else {
		c.rest += x - t + c.sum
	}
	c.sum = t
}

func (c *cell) extreme(op AggregateOp, x float64) {
	if c.n == 1 || op == Min && x < c.number || op == Max && x > c.number {
		c.number = x
	}
}

// distinctText is what a value is known by among others: numbers that are equal are one,
// a long text is known by its SHA-256.
func distinctText(dst []byte, v *Value) []byte {
	kind := v.Kind
	if kind == Double {
		kind = Int
	}
	dst = append(dst, byte(kind))
	if kind != Int && len(v.Text) > 64 {
		sum := sha256.Sum256(v.Text)
		return append(append(dst, 0), sum[:]...)
	}
	if kind != Int {
		return append(append(dst, 1), v.Text...)
	}
	return v.AppendText(dst)
}

func (c *cell) addDistinct(s *GroupSpec, v *Value) error {
	var room [80]byte
	text := distinctText(room[:0], v)
	if c.hll != nil {
		c.hll.Insert(text)
		return nil
	}
	if _, known := c.set[string(text)]; known {
		return nil
	}
	if c.set == nil {
		c.set = make(map[string]struct{})
	}
	if err := s.take(len(text) + 48); err != nil {
		return err
	}
	c.set[string(text)] = struct{}{}
	return c.estimateDistinct(s)
}

// estimateDistinct goes over to an estimate where there are too many values.
func (c *cell) estimateDistinct(s *GroupSpec) error {
	if len(c.set) <= MaxExact {
		return nil
	}
	freed := 0
	c.hll = hyperloglog.New14()
	for text := range c.set {
		c.hll.Insert([]byte(text))
		freed += len(text) + 48
	}
	c.set = nil
	return s.take(hllBytes - freed)
}

func (c *cell) addNumber(s *GroupSpec, x float64) error {
	if c.kll != nil {
		c.kll.Update(x)
		return nil
	}
	if len(c.numbers) == cap(c.numbers) {
		if err := s.take(8 * max(16, len(c.numbers))); err != nil {
			return err
		}
		c.numbers = slices.Grow(c.numbers, max(16, len(c.numbers)))
	}
	c.numbers = append(c.numbers, x)
	return c.estimateQuantile(s)
}

// estimateQuantile goes over to an estimate where there are too many numbers.
func (c *cell) estimateQuantile(s *GroupSpec) error {
	if len(c.numbers) <= MaxExact {
		return nil
	}
	sketch, err := kll.NewKllItemsSketch(kllK, 8, common.ItemSketchDoubleComparator(false), common.ItemSketchSerde[float64](common.ItemSketchDoubleSerDe{}))
	if err != nil {
		return err
	}
	for _, x := range c.numbers {
		sketch.Update(x)
	}
	freed := 8 * cap(c.numbers)
	c.kll, c.numbers = sketch, nil
	return s.take(kllBytes - freed)
}

// merge adds what another has looked at.
func (c *cell) merge(s *GroupSpec, a *Aggregation, o *cell) error {
	if o.n == 0 {
		return nil
	}
	first := c.n == 0
	c.n += o.n
	switch a.Op {
	case Count:
	case Sum, Avg:
		c.addInt(o.high, o.low)
		c.addDouble(o.sum)
		c.addDouble(o.rest)
	case Min, Max:
		if first || a.Op == Min && o.number < c.number || a.Op == Max && o.number > c.number {
			c.number = o.number
		}
	case First, Last:
		if first || c.place.Compare(o.place) < 0 == (a.Op == First) {
			c.number, c.place = o.number, o.place
		}
	case Distinct:
		return c.mergeDistinct(s, o)
	case Quantile:
		return c.mergeQuantile(s, o)
	}
	return nil
}

func (c *cell) mergeDistinct(s *GroupSpec, o *cell) error {
	if c.hll == nil {
		c.set, o.set, c.hll, o.hll = o.set, c.set, o.hll, c.hll
	}
	// Of two estimates, or an estimate and a set, c has an estimate now.
	if o.hll != nil {
		return c.hll.Merge(o.hll)
	}
	for text := range o.set {
		if c.hll != nil {
			c.hll.Insert([]byte(text))
			continue
		}
		if c.set == nil {
			c.set = make(map[string]struct{})
		}
		c.set[text] = struct{}{}
	}
	return c.estimateDistinct(s)
}

func (c *cell) mergeQuantile(s *GroupSpec, o *cell) error {
	if c.kll == nil {
		c.kll, o.kll, c.numbers, o.numbers = o.kll, c.kll, o.numbers, c.numbers
	}
	if o.kll != nil {
		c.kll.Merge(o.kll)
		return nil
	}
	for _, x := range o.numbers {
		if err := c.addNumber(s, x); err != nil {
			return err
		}
	}
	return nil
}

func (c *cell) estimate() bool { return c.hll != nil || c.kll != nil }

// value is what the aggregation gives. Of no values only Count and Distinct give one, 0.
func (c *cell) value(a *Aggregation) (v float64, ok bool) {
	switch a.Op {
	case Count:
		return float64(c.n), true
	case Distinct:
		if c.hll != nil {
			return float64(c.hll.Estimate()), true
		}
		return float64(len(c.set)), true
	case Sum, Avg, Min, Max, First, Last, Quantile:
	}
	if c.n == 0 {
		return 0, false
	}
	switch a.Op {
	case Sum:
		return c.total(), true
	case Avg:
		return c.total() / float64(c.n), true
	case Quantile:
		return c.quantile(a.Q)
	case Min, Max, First, Last, Count, Distinct:
	}
	return c.number, true
}

// total is the sum.
func (c *cell) total() float64 {
	doubles := c.sum
	if !math.IsInf(doubles, 0) {
		doubles += c.rest
	}
	high, low := c.high, c.low
	if high < 0 { // a negative one, of its magnitude
		var borrow uint64
		low, borrow = bits.Sub64(0, low, 0)
		high = -high - int64(borrow)
		return doubles - magnitude(uint64(high), low)
	}
	return doubles + magnitude(uint64(high), low)
}

// magnitude is the double nearest to high*2^64 + low, but for a second rounding.
func magnitude(high, low uint64) float64 {
	if high == 0 {
		return float64(low)
	}
	return math.Ldexp(float64(high), 64) + float64(low)
}

func (c *cell) quantile(q float64) (float64, bool) {
	if c.kll != nil {
		v, err := c.kll.GetQuantile(q, true)
		return v, err == nil
	}
	slices.Sort(c.numbers)
	i := int(math.Ceil(q*float64(len(c.numbers)))) - 1
	return c.numbers[min(max(i, 0), len(c.numbers)-1)], true
}
