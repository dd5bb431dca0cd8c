package gateway

import (
	"errors"
	"testing"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// TestAGroupIsLookedForBesideWhatIsNotServed: a namespace that could not be opened has no log.
func TestAGroupIsLookedForBesideWhatIsNotServed(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.open("plays", "abstraction: kv\n")
	stopped := &Namespace{Name: "broken"}
	stopped.Fail(errors.New("it cannot be opened"))
	r.dir.Add(stopped)
	_, err := r.log.GetGroup(t.Context(), &headwaterv1.GetGroupRequest{GroupId: "0123456789ab-0-0-2"})
	if e := apierrors.From(err); err == nil || e.Reason != apierrors.MessageNotFound {
		t.Errorf("a group of nobody: %v", err)
	}
}
