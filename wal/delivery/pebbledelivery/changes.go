package pebbledelivery

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// changes are what an open batch makes of the messages of one partition. Of a key that has an order
// one delivery is in tableDue, its head: the first by due and offset, or one of which an attempt was
// made before that one came.
type changes struct {
	db *pebblestore.DB
	p  wal.Partition
	w  *pebble.Batch

	// What the batch has changed, as the store does not know it yet.
	heads  map[string]*delivery.Delivery // by headKey; nil: there is none
	status map[wal.Offset]*delivery.Status
	gone   map[string]bool // keys of tableQueue

	next []delivery.Delivery
	err  error // the first
}

func newChanges(db *pebblestore.DB, p wal.Partition, w *pebble.Batch) *changes {
	return &changes{
		db: db, p: p, w: w, heads: make(map[string]*delivery.Delivery), status: make(map[wal.Offset]*delivery.Status), gone: make(map[string]bool),
	}
}

func (c *changes) fail(err error) bool {
	if c.err == nil {
		c.err = err
	}
	return c.err != nil
}

func (c *changes) set(key, value []byte) { c.fail(c.w.Set(key, value, nil)) }

func (c *changes) remove(key []byte) { c.fail(c.w.Delete(key, nil)) }

// add puts a message that is to be delivered.
func (c *changes) add(m *delivery.Pending) {
	c.set(offsetKey(tableMessage, c.p, m.Offset), appendMessage(nil, m))
	id := wal.IDOf(m.Key, m.Token.Nonce)
	c.set(nonceKey(c.p, m.Token.Nonce, m.Offset), id[:])
	if m.Delayed() {
		c.set(delayedKey(c.p, m.Due, m.Offset), nil)
		c.set(byKeyKey(c.p, m.Key, m.Due, m.Offset), nil)
	}
	for _, a := range m.Aims {
		c.enqueue(deliveryOf(m, a))
	}
}

// deliveryOf is that of a message of which nothing came yet.
func deliveryOf(m *delivery.Pending, a delivery.Aim) *delivery.Delivery {
	d := &delivery.Delivery{Target: a.Target, Offset: m.Offset, At: m.Due, Due: m.Due, Ordered: a.Ordered && !m.Keyless, Delayed: m.Delayed()}
	if d.Ordered {
		d.Key = m.Key
	}
	return d
}

func (c *changes) enqueue(d *delivery.Delivery) {
	if !d.Ordered {
		c.putDue(d)
		return
	}
	c.set(queueKey(c.p, d.Target, d.Key, d.Due, d.Offset), []byte{flagsOf(d)})
	h := c.head(d.Target, d.Key)
	switch {
	case h == nil:
	case h.Parked || h.Attempts > 0 || h.Marked || h.Due < d.Due || h.Due == d.Due && h.Offset < d.Offset:
		return
	default:
		c.remove(dueKey(c.p, h.Target, h.At, h.Offset))
	}
	c.lead(d)
}

// putDue has a delivery come at its time.
func (c *changes) putDue(d *delivery.Delivery) {
	c.set(dueKey(c.p, d.Target, d.At, d.Offset), appendDelivery(nil, d))
	c.next = append(c.next, *d)
}

// lead makes a delivery the head of its key.
func (c *changes) lead(d *delivery.Delivery) {
	c.setHead(d)
	c.putDue(d)
}

func (c *changes) setHead(d *delivery.Delivery) {
	k := headKey(c.p, d.Target, d.Key)
	c.heads[string(k)] = d
	c.set(k, appendHead(nil, d))
}

// park has a dead delivery be the head of its key, which does not come, nor do those behind it.
func (c *changes) park(d *delivery.Delivery) {
	if h := c.head(d.Target, d.Key); h != nil {
		c.remove(dueKey(c.p, h.Target, h.At, h.Offset))
	}
	d.Parked = true
	c.setHead(d)
}

// unpark has the key of a parked delivery go on, with what is due first of it; false: it is not parked.
func (c *changes) unpark(d *delivery.Delivery) bool {
	if !d.Ordered {
		return false
	}
	h := c.head(d.Target, d.Key)
	if h == nil || !h.Parked || h.Offset != d.Offset {
		return false
	}
	next, err := c.first(d.Target, d.Key)
	if !c.fail(err) && next != nil {
		c.lead(next)
	}
	return true
}

// head is that of a key, nil where nothing of it waits.
func (c *changes) head(target string, key []byte) *delivery.Delivery {
	k := headKey(c.p, target, key)
	if h, ok := c.heads[string(k)]; ok {
		return h
	}
	var h *delivery.Delivery
	_, err := c.db.View(k, func(v []byte) error {
		d, err := decodeHead(target, v)
		h = &d
		return err
	})
	if c.fail(err) {
		return nil
	}
	return h
}

// put writes a delivery again whose row was at another time.
func (c *changes) put(d *delivery.Delivery, was int64) {
	if was != d.At {
		c.remove(dueKey(c.p, d.Target, was, d.Offset))
	}
	if d.Ordered {
		c.lead(d)
	} else {
		c.putDue(d)
	}
}

// take takes a delivery away, and has the next of its key come.
func (c *changes) take(d *delivery.Delivery) {
	if !d.Ordered {
		c.remove(dueKey(c.p, d.Target, d.At, d.Offset))
		return
	}
	k := queueKey(c.p, d.Target, d.Key, d.Due, d.Offset)
	c.remove(k)
	c.gone[string(k)] = true
	h := c.head(d.Target, d.Key)
	if h == nil {
		return
	}
	if h.Offset != d.Offset {
		c.again(h)
		return
	}
	c.remove(dueKey(c.p, h.Target, h.At, h.Offset))
	next, err := c.first(d.Target, d.Key)
	switch {
	case c.fail(err):
	case next != nil:
		c.lead(next)
	default:
		k := headKey(c.p, d.Target, d.Key)
		c.heads[string(k)] = nil
		c.remove(k)
	}
}

// again tells of a head that may have been passed over.
func (c *changes) again(h *delivery.Delivery) {
	if !h.Parked {
		c.next = append(c.next, *h)
	}
}

// first is the delivery of a key that is due first, of those that the batch has not added.
func (c *changes) first(target string, key []byte) (d *delivery.Delivery, err error) {
	lo := queuePrefix(c.p, target, key)
	err = c.db.Range(lo, pebblestore.Successor(lo), func(it *pebble.Iterator) error {
		if c.gone[string(it.Key())] {
			return nil
		}
		due, o, err := placeOf(it.Key())
		if err != nil {
			return err
		}
		v := it.Value()
		d = &delivery.Delivery{Target: target, Offset: o, At: due, Due: due, Ordered: true, Key: bytes.Clone(key), Delayed: len(v) > 0 && v[0]&flagDelayed != 0}
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return d, err
}

// statusOf is what is known of a message, nil where nothing is.
func (c *changes) statusOf(o wal.Offset) *delivery.Status {
	if s, ok := c.status[o]; ok {
		return s
	}
	s, err := readStatus(c.db, c.p, o)
	if c.fail(err) {
		return nil
	}
	c.status[o] = s
	return s
}

// in is what is known of a delivery in a state, nil where there is none.
func (c *changes) in(
	state delivery.TargetState, o wal.Offset, target string,
) (*delivery.Status, *delivery.TargetStatus) {
	s := c.statusOf(o)
	if s == nil {
		return nil, nil
	}
	for i := range s.Targets {
		if t := &s.Targets[i]; t.Target == target && t.State == state {
			return s, t
		}
	}
	return nil, nil
}

// noted saves a status, and ends the message when all its deliveries have ended.
func (c *changes) noted(s *delivery.Status, now int64) {
	c.set(offsetKey(tableStatus, c.p, s.Offset), appendStatus(nil, s))
	if !s.Ended() {
		return
	}
	k := offsetKey(tableMessage, c.p, s.Offset)
	if s.Has(delivery.Dead) {
		v, err := c.db.Value(k)
		if !c.fail(err) && v != nil {
			c.set(offsetKey(tableBuried, c.p, s.Offset), v)
		}
	} else {
		c.set(endedKey(c.p, now, s.Offset), s.Nonce[:])
	}
	if s.Due > s.LogTime {
		_, err := c.db.View(k, func(v []byte) error {
			m, err := decodeMessage(s.Offset, v, false)
			c.remove(byKeyKey(c.p, m.Key, m.Due, m.Offset))
			return err
		})
		c.fail(err)
		c.remove(delayedKey(c.p, s.Due, s.Offset))
	}
	c.remove(k)
}

// settle writes down what came of an attempt.
func (c *changes) settle(o *delivery.Outcome) {
	s, t := c.in(delivery.Waiting, o.Offset, o.Target)
	if t == nil {
		o.Gone = true
		return
	}
	d := o.Delivery
	switch o.What {
	case delivery.Begins:
		if h := c.headIfOrdered(&d); h != nil && h.Offset != d.Offset { // one that is due before it has come
			o.Gone = true
			c.again(h)
			return
		}
		d.Marked, t.Begun = true, true
		c.put(&d, d.At)
	case delivery.Fails:
		t.Attempts++
		t.Error, t.At, t.Begun = o.Error, o.Now, true
		was := d.At
		d.Attempts, d.At, d.Marked = d.Attempts+1, o.Next, true
		if h := c.headIfOrdered(&d); h != nil && h.Offset != d.Offset {
			c.again(h)
			break
		}
		c.put(&d, was)
	case delivery.Succeeds:
		t.Attempts++
		t.State, t.Error, t.At = delivery.Delivered, "", o.Now
		c.take(&d)
	}
	c.noted(s, o.Now)
}

// headIfOrdered is the head of a delivery's key, nil where it is in no order.
func (c *changes) headIfOrdered(d *delivery.Delivery) *delivery.Delivery {
	if !d.Ordered {
		return nil
	}
	return c.head(d.Target, d.Key)
}

// message is one that has not ended, without its payload; nil: it has.
func (c *changes) message(o wal.Offset) (m *delivery.Pending) {
	_, err := c.db.View(offsetKey(tableMessage, c.p, o), func(v []byte) (err error) {
		m, err = decodeMessage(o, v, false)
		return err
	})
	if c.fail(err) {
		return nil
	}
	return m
}

// buried is a message of which a delivery is dead and none waits, without its payload, and its row; nil: it is none.
func (c *changes) buried(o wal.Offset) (*delivery.Pending, []byte) {
	v, err := c.db.Value(offsetKey(tableBuried, c.p, o))
	if c.fail(err) || v == nil {
		return nil, nil
	}
	m, err := decodeMessage(o, v, false)
	if c.fail(err) {
		return nil, nil
	}
	return m, v
}

// cancel takes a message away of which no attempt has begun.
func (c *changes) cancel(o wal.Offset, now int64) bool {
	s, m := c.statusOf(o), c.message(o)
	if s == nil || m == nil || !m.Delayed() {
		return false
	}
	for i := range s.Targets {
		if t := &s.Targets[i]; t.State != delivery.Waiting || t.Begun {
			return false
		}
	}
	for i, a := range m.Aims {
		s.Targets[i].State, s.Targets[i].At = delivery.Cancelled, now
		c.take(deliveryOf(m, a))
	}
	c.noted(s, now)
	return true
}

// kill gives a delivery up.
func (c *changes) kill(x *delivery.Death) *delivery.TargetStatus {
	s, t := c.in(delivery.Waiting, x.Offset, x.Target)
	m := c.message(x.Offset)
	if t == nil || m == nil {
		return nil
	}
	aim := aimAt(m, x.Target)
	d := deliveryOf(m, aim)
	if d.At = x.At; aim.Parks && d.Ordered {
		c.park(d)
	} else {
		c.take(d)
	}
	t.Attempts++
	t.State, t.Error, t.At, t.Begun = delivery.Dead, x.Reason, x.Now, true
	c.set(deadKey(c.p, t.At, s.Offset, t.Target), nil)
	c.noted(s, x.Now)
	return t
}

// aimAt is that of a target, which the message has.
func aimAt(m *delivery.Pending, target string) delivery.Aim {
	for _, a := range m.Aims {
		if a.Target == target {
			return a
		}
	}
	return delivery.Aim{Target: target}
}

// redrive has a dead delivery wait again.
func (c *changes) redrive(o wal.Offset, target string, now int64, by string) *delivery.TargetStatus {
	s, t := c.in(delivery.Dead, o, target)
	if t == nil {
		return nil
	}
	m := c.message(o)
	if m == nil { // all its deliveries have ended
		var v []byte
		if m, v = c.buried(o); m == nil {
			return nil
		}
		c.set(offsetKey(tableMessage, c.p, o), v)
		c.remove(offsetKey(tableBuried, c.p, o))
	}
	c.remove(deadKey(c.p, t.At, o, target))
	t.State, t.At, t.By = delivery.Waiting, now, by
	d := deliveryOf(m, aimAt(m, target))
	d.Delayed = false // an attempt was made: nothing cancels it
	if !d.Ordered {
		d.At = now + 1 // behind what has been delivered; see wal.SourcePlace
	}
	if !c.unpark(d) {
		c.enqueue(d)
	}
	c.set(offsetKey(tableStatus, c.p, o), appendStatus(nil, s))
	return t
}

// drop gives a dead delivery up for good.
func (c *changes) drop(o wal.Offset, target string, now int64, by string) *delivery.TargetStatus {
	s, t := c.in(delivery.Dead, o, target)
	if t == nil {
		return nil
	}
	c.remove(deadKey(c.p, t.At, o, target))
	c.freeKey(o, target)
	t.State, t.At, t.By = delivery.Dropped, now, by
	c.set(offsetKey(tableStatus, c.p, o), appendStatus(nil, s))
	if s.Ended() && !s.Has(delivery.Dead) {
		c.remove(offsetKey(tableBuried, c.p, o))
		c.set(endedKey(c.p, now, o), s.Nonce[:])
	}
	return t
}

// freeKey has the key go on that waits for a dead delivery, if one does.
func (c *changes) freeKey(o wal.Offset, target string) {
	m := c.message(o)
	if m == nil {
		if m, _ = c.buried(o); m == nil {
			return
		}
	}
	d := deliveryOf(m, aimAt(m, target))
	if h := c.headIfOrdered(d); h != nil && h.Parked && h.Offset == o {
		c.take(h)
	}
}
