package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestAggregates works aggregations out over several partitions and slices, and compares
// the answers as they are sent.
func TestAggregates(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	is(t, "make", applyDoc(t, s, "namespace: agg\nabstraction: timeseries\nlog: {partitions: 4}\ntimeseries: {slice: 24h}\n"))
	e := func(series, at, id, items string) string {
		return fmt.Sprintf(`{"timeSeriesId":"%s","eventTime":"2001-10-%s","eventId":"%s","items":[%s]}`, series, at, id, items)
	}
	n := func(key, value string) string { return `{"key":"` + key + `","value":{` + value + `}}` }
	events := []string{
		e("a", "27T12:00:00Z", "1", n("k", `"int":"1"`)+","+n("o", `"string":"X"`)),
		e("a", "28T04:30:00Z", "2", n("k", `"double":2.5`)+","+n("o", `"string":"X"`)),
		e("b", "29T04:30:00Z", "3", n("k", `"int":"-4"`)+","+n("o", `"int":"7"`)),
		e("b", "29T04:59:59.999999Z", "4", n("o", `"double":7`)),
		e("c", "29T05:00:00Z", "5", n("k", `"string":"text"`)),
		e("d", "30T00:00:00Z", "6", n("k", `"int":"9"`)+","+n("time_series_id", `"string":"other"`)),
	}
	is(t, "write", ts(t, s, "WriteEventRecordsSync", `{"namespace":"agg","events":[`+strings.Join(events, ",")+`]}`), "accepted", "6")
	interval := `"interval":{"start":"2001-10-01T00:00:00Z","end":"2001-11-01T00:00:00Z"}`
	ask := func(rest string) reply {
		return ts(t, s, "AggregateEventRecords", `{"namespace":"agg",`+interval+`,`+rest+`}`)
	}
	all := `"aggregations":[{"name":"n","op":"COUNT"},{"name":"has","op":"COUNT","key":"k"},{"name":"sum","op":"SUM","key":"k"},{"name":"avg","op":"AVG","key":"k"},{"name":"min","op":"MIN","key":"k"},` +
		`{"name":"max","op":"MAX","key":"k"},{"name":"first","op":"FIRST","key":"k"},{"name":"last","op":"LAST","key":"k"},{"name":"kinds","op":"DISTINCT","key":"k"},{"name":"p50","op":"QUANTILE","key":"k","quantile":0.5}]`
	count := `"aggregations":[{"name":"n","op":"COUNT"}]`
	for _, c := range []struct{ rest, groups string }{
		{all, "map[labels:map[] values:map[avg:2.125 first:1 has:5 kinds:5 last:9 max:9 min:-4 n:6 p50:1 sum:8.5]]"},
		{all + `,"timeSeriesId":"c"`, "map[labels:map[] values:map[has:1 kinds:1 n:1]]"},
		{all + `,"timeSeriesId":"none"`, ""},
		{count + `,"groupBy":["o"]`, "map[labels:map[] values:map[n:2]] map[labels:map[o:7] values:map[n:2]] map[labels:map[o:X] values:map[n:2]]"},
		{count + `,"groupBy":["time_series_id"],"query":{"exists":{"key":"time_series_id"}}`, "map[labels:map[time_series_id:d] values:map[n:1]]"},
		{count + `,"timeBucket":"86400s","timeZone":"America/New_York"`, "map[bucketStart:2001-10-27T04:00:00Z labels:map[] values:map[n:1]] map[bucketStart:2001-10-28T04:00:00Z labels:map[] values:map[n:3]]" +
			" map[bucketStart:2001-10-29T05:00:00Z labels:map[] values:map[n:2]]"},
		{count + `,"groupBy":["time_series_id"],"orderBy":{"value":"n","descending":true},"limit":2`, "map[labels:map[time_series_id:a] values:map[n:2]] map[labels:map[time_series_id:b] values:map[n:2]]"},
		{count + `,"groupBy":["time_series_id"],"orderBy":{"label":"time_series_id","descending":true},"limit":1`, "map[labels:map[time_series_id:d] values:map[n:1]]"},
		{`"aggregations":[{"name":"s","op":"SUM","key":"k"}],"groupBy":["time_series_id"],"orderBy":{"value":"s"},"limit":4`, "map[labels:map[time_series_id:b] values:map[s:-4]]" +
			" map[labels:map[time_series_id:a] values:map[s:3.5]] map[labels:map[time_series_id:d] values:map[s:9]] map[labels:map[time_series_id:c] values:map[]]"},
		{`"aggregations":[{"name":"n","op":"COUNT"},{"name":"m","op":"MAX","key":"k"}],"timeBucket":"86400s","fill":"ZERO","query":{"prefix":{"key":"o","value":"X"}},"interval":{"start":"2001-10-27T00:00:00Z","end":"2001-10-29T00:00:01Z"}`,
			"map[bucketStart:2001-10-27T00:00:00Z labels:map[] values:map[m:1 n:1]] map[bucketStart:2001-10-28T00:00:00Z labels:map[] values:map[m:2.5 n:1]] map[bucketStart:2001-10-29T00:00:00Z labels:map[] values:map[n:0]]"},
	} {
		rest := c.rest
		r := reply{}
		if strings.Contains(rest, `"interval"`) {
			r = ts(t, s, "AggregateEventRecords", `{"namespace":"agg",`+rest+`}`)
		} else {
			r = ask(rest)
		}
		is(t, rest, r, "truncated", fmt.Sprint(strings.Contains(rest, `"limit":2`) || strings.Contains(rest, `"limit":1`)))
		if got := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(r.field(t, "groups")), "["), "]"); got != c.groups {
			t.Errorf("%s:\n%s, not\n%s", rest, got, c.groups)
		}
	}
	for rest, code := range map[string]string{
		`"aggregations":[]`: "HW-1048", count + `,"groupBy":["o","o"]`: "HW-1048", count + `,"groupBy":[""]`: "HW-1048",
		`"aggregations":[{"name":"n"}]`: "HW-1048", `"aggregations":[{"op":"COUNT"}]`: "HW-1048", `"aggregations":[{"name":"n","op":"SUM"}]`: "HW-1048",
		`"aggregations":[{"name":"n","op":"COUNT"},{"name":"n","op":"COUNT"}]`:                               "HW-1048",
		`"aggregations":[{"name":"n","op":"QUANTILE","key":"k"}]`:                                            "HW-1048",
		`"aggregations":[{"name":"n","op":"QUANTILE","key":"k","quantile":1.5}]`:                             "HW-1048",
		`"aggregations":[{"name":"n","op":"QUANTILE","key":"k","quantile":"NaN"}]`:                           "HW-1048",
		`"aggregations":[{"name":"n","op":"COUNT","quantile":0.5}]`:                                          "HW-1048",
		count + `,"timeZone":"Europe/Berlin"`:                                                                "HW-1048",
		count + `,"fill":"ZERO"`:                                                                             "HW-1048",
		count + `,"timeBucket":"0s"`:                                                                         "HW-1048",
		count + `,"timeBucket":"-3600s"`:                                                                     "HW-1048",
		count + `,"timeBucket":"315576000000s"`:                                                              "HW-1048",
		count + `,"timeBucket":"0.0000001s"`:                                                                 "HW-1048",
		count + `,"timeBucket":"3600s","timeZone":"../../etc/passwd"`:                                        "HW-1048",
		count + `,"timeBucket":"3600s","timeZone":"Local"`:                                                   "HW-1048",
		count + `,"orderBy":{}`:                                                                              "HW-1048",
		count + `,"orderBy":{"value":"x"}`:                                                                   "HW-1048",
		count + `,"orderBy":{"label":"x"}`:                                                                   "HW-1048",
		count + `,"limit":0`:                                                                                 "HW-1048",
		count + `,"limit":100001`:                                                                            "HW-1048",
		count + `,"query":{}`:                                                                                "HW-1047",
		count + `,"groupBy":["time_series_id"],"limit":3`:                                                    "HW-1049",
		count + `,"timeBucket":"0.000001s","fill":"ZERO"`:                                                    "HW-1049",
		count + `,"timeBucket":"0.000001s","fill":"ZERO","orderBy":{"value":"n"}`:                            "HW-1049",
		`"aggregations":[` + strings.Repeat(`{"name":"n","op":"COUNT"},`, 64) + `{"name":"m","op":"COUNT"}]`: "HW-1048",
	} {
		r := ask(rest)
		status := http.StatusBadRequest
		if code == "HW-1049" {
			status = http.StatusRequestEntityTooLarge
		}
		if r.status != status || !strings.Contains(r.body, code) {
			t.Errorf("%.200s: %s, not %s", rest, r, code)
		}
	}
}
