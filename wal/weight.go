package wal

// heavyRecord is a record of several mutations that is acknowledged and not
// applied.
type heavyRecord struct {
	offset Offset
	more   int64 // mutations beyond one
}

// weigh notes that a record of so many mutations is acknowledged at o.
func (s *Stream) weigh(p Partition, weight int, o Offset) {
	if weight <= 1 {
		return
	}
	part := &s.parts[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	part.heavy = append(part.heavy, heavyRecord{o, int64(weight - 1)})
	part.more.Add(int64(weight - 1))
	part.lighten(s.cfg.Progress.Applied(p)) // it may be applied already
}

// lighten takes out what is applied up to o. One that stands behind a later record
// goes a moment later. The caller holds mu.
func (p *streamPart) lighten(o Offset) {
	n := 0
	for n < len(p.heavy) && p.heavy[n].offset <= o {
		p.more.Add(-p.heavy[n].more)
		n++
	}
	if p.heavy = p.heavy[n:]; len(p.heavy) == 0 {
		p.heavy = nil
	}
}
