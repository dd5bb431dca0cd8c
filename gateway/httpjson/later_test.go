package httpjson

import (
	"testing"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// TestWhatIsNotInThisBuildIsRefusedByName: nothing that a caller asks for is passed
// over, and none of it is called a mistake.
func TestWhatIsNotInThisBuildIsRefusedByName(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	f.log.write = func(*headwaterv1.WriteToLogRequest) (*headwaterv1.WriteToLogResponse, error) {
		t.Error("a message was written without what was asked for")
		return &headwaterv1.WriteToLogResponse{}, nil
	}
	const write = "/headwater.v1.LogService/WriteToLog"
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/headwater.v1.LogService/FetchMessages", `{"namespace": "n", "consumer": "c"}`},
		{"POST", write, `{"namespace": "n", "target": {"http": {"url": "http://x"}}}`},
		{"POST", write, `{"namespace": "n", "lifecycle": {"originalWriteTime": "2026-01-31T12:00:00Z"}}`},
	} {
		body := f.do(c.method, c.path, c.body).wantError(t, 501, apierrors.NotOffered)
		if c.method == "POST" && body["outcome"] != "NOT_APPLIED" {
			t.Errorf("%s %s: outcome %v", c.path, c.body, body["outcome"])
		}
	}
	f.do("POST", putPath, `{"namespace": "n", "lifecycle": {}}`).wantError(t, 400, apierrors.MalformedRequest)
}
