package httpjson

import (
	"google.golang.org/protobuf/proto"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// The plain routes in the OpenAPI document.

func text() object { return object{"type": "string"} }

func rawBody() object {
	return object{"*/*": object{"schema": object{"description": "Any bytes."}}}
}

func idempotencyKey() object {
	return parameter("header", "Idempotency-Key", "1 to 128 bytes. The same key with the same request gets the first answer.", object{"type": "string", "minLength": 1, "maxLength": 128})
}

func ifMatch() object {
	return parameter("header", "If-Match", `A version in double quotes, as ETag told it; 409 when another is current.`, text())
}

func position() object {
	return object{positionHeader: object{"description": "Give it to a read as ?after=.", "schema": text()}}
}

func operation(id, tag, summary string, parameters []object, success object, status string) object {
	return object{
		"operationId": id, "tags": []string{tag}, "summary": summary,
		"parameters": append(parameters, commonHeaders()...), "responses": responses(success, status),
	}
}

func plainKVPaths(paths object, _ schemas) {
	const tag = "Plain key-value"
	namespace := parameter("path", "namespace", "", text())
	id := parameter("path", "id", "Percent-encoded, / as %2F.", text())
	key := parameter("path", "key", "Percent-encoded, / as %2F. May be empty.", text())
	withETag := position()
	withETag["ETag"] = object{"description": "The item's version, in double quotes.", "schema": text()}

	put := operation("putValue", tag, "Write one value", []object{
		namespace, id, key, idempotencyKey(), ifMatch(), contentEncoding(),
		parameter("header", "If-None-Match", "*: only when the item does not exist; 409 when it does.", object{"type": "string", "const": "*"}),
		parameter("header", "Headwater-TTL", "A duration above zero such as 1h.", text()),
	}, object{"description": "Durable.", "headers": withETag}, "204")
	put["requestBody"] = object{"required": true, "description": "The value, at most 1 MiB. Content-Type is kept.", "content": rawBody()}

	get := operation("getValue", tag, "Read one value", []object{
		namespace, id, key,
		parameter("query", "after", "A position to wait for; may be repeated.", object{"type": "array", "items": text()}),
		parameter("query", "consistency", "As the namespace says unless given.", object{"type": "string", "enum": []string{
			"read_your_writes", "latest", "eventual", "READ_YOUR_WRITES", "LATEST", "EVENTUAL",
		}}),
	}, object{"description": "The value.", "headers": withETag, "content": rawBody()}, "200")

	paths["/v1/kv/{namespace}/{id}/{key}"] = object{
		"put": put, "get": get,
		"delete": operation("deleteValue", tag, "Delete one value", []object{namespace, id, key, idempotencyKey(), ifMatch()},
			object{"description": "Durable.", "headers": position()}, "204"),
	}
	paths["/v1/kv/{namespace}/{id}"] = object{
		"delete": operation("deleteRecord", tag, "Delete a whole record", []object{namespace, id, idempotencyKey()},
			object{"description": "Durable.", "headers": position()}, "204"),
	}
}

func plainCounterPaths(paths object, s schemas) {
	const tag = "Plain counters"
	namespace := parameter("path", "namespace", "", text())
	name := parameter("path", "counter", "Percent-encoded, / as %2F.", text())
	answer := func(description string, m proto.Message) object {
		return object{
			"description": description, "headers": position(),
			"content": object{"application/json": object{"schema": s.message(m.ProtoReflect().Descriptor())}},
		}
	}
	paths["/v1/counter/{namespace}/{counter}"] = object{
		"post": operation("addCount", tag, "Add to one counter and get its value", []object{
			namespace, name, idempotencyKey(),
			parameter("query", "by", "What to add; 1 unless given.", object{"type": "integer", "format": "int64", "default": 1}),
		}, answer("Durable and applied: the value right after it.", &headwaterv1.AddAndGetCountResponse{}), "200"),
		"get": operation("getCount", tag, "Read one counter", []object{
			namespace, name,
			parameter("query", "accuracy", "The namespace's unless given.", object{"type": "string", "enum": []string{
				"best_effort", "eventual", "accurate", "BEST_EFFORT", "EVENTUAL", "ACCURATE",
			}}),
			parameter("query", "after", "A position to wait for; may be repeated.", object{"type": "array", "items": text()}),
		}, answer("The count; 0 for a counter that was never added to.", &headwaterv1.GetCountResponse{}), "200"),
	}
}

func plainLogPaths(paths object, s schemas) {
	const tag = "Plain log"
	namespace := parameter("path", "namespace", "", text())
	write := operation("writeMessage", tag, "Append one message", []object{
		namespace, parameter("path", "key", "Percent-encoded, / as %2F. May be empty.", text()), idempotencyKey(),
		contentEncoding(),
	}, object{
		"description": "Durable.", "headers": position(),
		"content": object{"application/json": object{"schema": s.message((&headwaterv1.WriteToLogResponse{}).ProtoReflect().Descriptor())}},
	}, "200")
	write["description"] = "A header Headwater-Header-NAME: VALUE of the request is the header NAME of the message. " +
		"Headwater-Target names a target of the namespace, and may be repeated; Headwater-Delay: 90s or Headwater-Deliver-At: 2026-01-31T12:00:00Z say when it is delivered; " +
		"Headwater-Replace: true has it come in place of those of its key that wait for their time."
	write["requestBody"] = object{"required": true, "description": "The payload.", "content": rawBody()}
	paths["/v1/log/{namespace}/{key}"] = object{"post": write}
	paths["/v1/log/{namespace}"] = object{"get": operation("readMessages", tag, "Read messages, one object a line", []object{
		namespace,
		parameter("query", "from", "earliest (unless given), latest, a time as RFC 3339, or a position.", text()),
		parameter("query", "follow", "Wait for new messages at the end.", object{"type": "boolean"}),
		parameter("query", "key", "Only messages of this key.", text()),
		parameter("query", "kind", "Only records of this kind.", text()),
	}, object{
		"description": "The messages. The head comes at once, also where there is none yet.",
		"headers": object{positionHeader: object{
			"description": "Behind which the read begins; each message has the position behind itself.", "schema": text(),
		}},
		"content": object{"application/x-ndjson": object{"schema": s.message((&headwaterv1.ReadLogResponse{}).ProtoReflect().Descriptor())}},
	}, "200")}
}

func plainTimeSeriesPaths(paths object, s schemas) {
	const tag = "Plain time series"
	namespace := parameter("path", "namespace", "", text())
	series := parameter("path", "series", "Percent-encoded, / as %2F.", text())
	value := object{"oneOf": []object{
		text(), {"type": "integer", "format": "int64"}, {"type": "number"}, {"type": "boolean"},
		{"type": "object", "properties": object{"base64": text()}, "required": []string{"base64"}},
	}}
	event := object{"type": "object", "required": []string{"eventTime", "items"}, "properties": object{
		"eventTime": object{"type": "string", "format": "date-time"}, "eventId": text(), "items": object{"type": "object", "additionalProperties": value},
	}}
	write := operation("writeEvents", tag, "Write one event, or several, one object a line", []object{namespace, series, idempotencyKey(), contentEncoding()}, object{
		"description": "Durable.", "headers": position(),
		"content": object{"application/json": object{"schema": s.message((&headwaterv1.WriteEventRecordsSyncResponse{}).ProtoReflect().Descriptor())}},
	}, "200")
	write["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": event}, "application/x-ndjson": object{"schema": event}}}
	headers := position()
	headers[nextPageHeader] = object{"description": "There is more: give it as ?page_token= with the same query.", "schema": text()}
	read := operation("readEvents", tag, "Read the events of a series, one object a line", []object{
		namespace, series,
		parameter("query", "start", "Included; 24 h before end unless given.", object{"type": "string", "format": "date-time"}),
		parameter("query", "end", "Excluded; now unless given.", object{"type": "string", "format": "date-time"}),
		parameter("query", "limit", "1 to 10,000 events of a page, 1,000 unless given.", object{"type": "integer", "minimum": 1, "maximum": plainEvents}),
		parameter("query", "order", "newest unless given.", object{"type": "string", "enum": []string{"newest", "oldest"}}),
		parameter("query", "page_token", "Of the page before.", text()),
		parameter("query", "after", "A position to wait for; may be repeated.", object{"type": "array", "items": text()}),
	}, object{"description": "The events.", "headers": headers, "content": object{"application/x-ndjson": object{"schema": event}}}, "200")
	paths["/v1/ts/{namespace}/{series}"] = object{"post": write, "get": read}
}
