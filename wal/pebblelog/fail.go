package pebblelog

// failed is told by Broker.fault why the log has stopped for good: nothing is
// acknowledged after it, and only a restart, which reads back what is on disk,
// makes it whole. A goroutine in the middle of Pebble that met the failure never
// returns and keeps whatever locks it holds; everybody else waits for the failure
// beside what they wait for.
func (b *Broker) failed(err error) {
	b.queue.fail(err)
	b.log.Error("log has stopped for good; restart to read back what is on disk", "error", err)
	if b.cfg.OnFail != nil {
		go b.cfg.OnFail(err)
	}
}
