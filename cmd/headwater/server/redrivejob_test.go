package server

import (
	"fmt"
	"net/http"
	"os"
	"testing"
)

// deadMessages is a server with a namespace of which so many messages were given up, each of its own key.
func deadMessages(t *testing.T, dir string, n int) (*Server, *receiver) {
	t.Helper()
	s := start(t, dir)
	hook := newReceiver(t)
	hook.answers(func(_ *got, w http.ResponseWriter) { w.WriteHeader(http.StatusBadRequest) })
	document(t, s, deliveryDoc("orders", hook.URL, "", ""))
	for i := range n {
		id := write(t, s, "orders", fmt.Sprint(i), fmt.Sprint(i))
		until(t, "dead", func() bool { return stateOf(t, s, "orders", id) == "DEAD" })
	}
	hook.answers(nil)
	return s, hook
}

func jobState(t *testing.T, s *Server, id string) (state, done string) {
	t.Helper()
	r := call(t, s, "Admin.GetJob", fmt.Sprintf(`{"id":%q}`, id))
	if r.status != http.StatusOK {
		return fmt.Sprint(r.status), ""
	}
	return r.field(t, "job.state").(string), r.field(t, "job.done").(string)
}

// TestARedriveGoesOnAfterItsCall: a call whose time is over answers that the job goes on.
func TestARedriveGoesOnAfterItsCall(t *testing.T) {
	t.Parallel()
	s, hook := deadMessages(t, t.TempDir(), 5)
	defer closeServer(t, s)
	r := call(t, s, "Log.RedriveDeadLetters", `{"namespace":"orders","rate":4}`, "Request-Timeout-Ms", "600")
	is(t, "redrive", r, "matched", "5", "running", "true")
	id := r.field(t, "job").(string)
	if state, _ := jobState(t, s, id); state != "RUNNING" {
		t.Errorf("the job is %s", state)
	}
	until(t, "the job's end", func() bool { state, done := jobState(t, s, id); return state == "DONE" && done == "5" })
	until(t, "all are delivered", func() bool { return len(hook.all()) == 10 })
	r = call(t, s, "Log.RedriveDeadLetters", `{"namespace":"orders"}`)
	is(t, "nothing is left", r, "matched", "0", "running", "false")
	if state, _ := jobState(t, s, r.field(t, "job").(string)); state != "DONE" { // the answer came when it had ended
		t.Errorf("a job that has ended is %s", state)
	}
}

// TestARedriveIsCancelled: what is not redriven by then stays.
func TestARedriveIsCancelled(t *testing.T) {
	t.Parallel()
	s, _ := deadMessages(t, t.TempDir(), 4)
	defer closeServer(t, s)
	r := call(t, s, "Log.RedriveDeadLetters", `{"namespace":"orders","rate":1}`, "Request-Timeout-Ms", "600")
	is(t, "redrive", r, "running", "true")
	id := r.field(t, "job").(string)
	is(t, "cancel", call(t, s, "Admin.CancelJob", fmt.Sprintf(`{"id":%q}`, id)))
	until(t, "the job's end", func() bool { state, _ := jobState(t, s, id); return state == "CANCELLED" })
	if r := call(t, s, "Log.RedriveDeadLetters", `{"namespace":"orders","dryRun":true}`); r.field(t, "matched") == "0" {
		t.Error("nothing is left of what was to be redriven")
	}
}

// TestARedriveGoesOnAfterAStart with what it has not tried, and no further than its maximum. What has died again meanwhile
// is not tried again by it.
func TestARedriveGoesOnAfterAStart(t *testing.T) {
	t.Parallel()
	wholeOnly(t) // a gateway keeps nothing
	dir := t.TempDir()
	s, hook := deadMessages(t, dir, 6)
	hook.answers(func(g *got, w http.ResponseWriter) { // the first dies again
		if g.body == "0" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	r := call(t, s, "Log.RedriveDeadLetters", `{"namespace":"orders","rate":2,"max":5}`, "Request-Timeout-Ms", "1000")
	is(t, "redrive", r, "matched", "5", "running", "true")
	id := r.field(t, "job").(string)
	closeServer(t, s)
	s = open(t, dir)
	defer closeServer(t, s)
	until(t, "the job's end", func() bool { state, _ := jobState(t, s, id); return state == "DONE" })
	until(t, "they are delivered", func() bool { return len(hook.all()) >= 6+4 })
	tries := make(map[string]int)
	for _, g := range hook.all() {
		tries[g.body]++
	}
	again := 0
	for _, n := range tries {
		again += n - 1
	}
	if again > 5 {
		t.Errorf("%d were tried again, and 5 were to be", again)
	}
	if tries["0"] != 2 {
		t.Errorf("one that dies again was tried %d times", tries["0"])
	}
	if left, err := os.ReadDir(s.dir.jobsDir()); err != nil || len(left) != 0 {
		t.Errorf("the job is kept after its end: %v, %v", left, err)
	}
}
