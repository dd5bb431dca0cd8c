package httpjson

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/headwater-db/headwater/api/apierrors"
)

// object is a JSON object of the OpenAPI document.
type object = map[string]any

func (h *Handler) openapiOnce() func() ([]byte, error) { return sync.OnceValues(h.OpenAPI) }

func (x *exchange) serveOpenAPI() {
	if !x.allow(http.MethodGet) {
		return
	}
	data, err := x.h.openapi()
	if err != nil {
		x.fail(fmt.Errorf("make OpenAPI document: %w", err))
		return
	}
	x.answer(append([]byte(nil), data...))
}

// OpenAPI makes the OpenAPI 3.1 document of everything registered so far.
func (h *Handler) OpenAPI() ([]byte, error) {
	s := schemas{"Error": errorSchema()}
	paths := object{}
	for _, sd := range h.services {
		for i := range sd.Methods().Len() {
			md := sd.Methods().Get(i)
			if m := h.methods["/"+string(sd.FullName())+"/"+string(md.Name())]; m != nil {
				paths[m.path] = object{"post": rpcOperation(m, s)}
			}
		}
	}
	paths["/openapi.json"] = object{"get": operation("getOpenAPI", "OpenAPI", "Read this document", nil,
		object{
			"description": "The document.",
			"content":     object{"application/json": object{"schema": object{"type": "object"}}},
		}, "200")}
	for i := range h.plain {
		h.plain[i].document(paths, s)
	}
	for _, path := range paths {
		if get, ok := path.(object)["get"].(object); ok {
			path.(object)["head"] = headOperation(get)
		}
	}
	data, err := json.Marshal(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Headwater", "version": h.cfg.Version,
			"description": "Every RPC as POST with proto3 JSON, and plain routes. Unknown fields are refused; answers hold every scalar field. A 64-bit integer is a string in answers, a string or a number in requests.",
			"license":     object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
		},
		"paths":      paths,
		"components": object{"schemas": s},
	})
	if err != nil {
		return nil, fmt.Errorf("encode document: %w", err)
	}
	return data, nil
}

func rpcOperation(m *method, s schemas) object {
	in, out := "application/json", "application/json"
	var notes []string
	if m.desc.IsStreamingClient() {
		in = "application/x-ndjson"
		notes = append(notes, "The body holds one request object a line.")
	}
	if m.desc.IsStreamingServer() {
		out = "application/x-ndjson"
		notes = append(notes, `The answer holds one object a line. An error after the first is a last line {"error": …}. Without Request-Timeout-Ms there is no deadline.`)
	}
	if m.write {
		notes = append(notes, "A write: its errors carry outcome and token.")
	}
	return object{
		"operationId": string(m.desc.Parent().Name()) + "_" + string(m.desc.Name()),
		"tags":        []string{string(m.desc.Parent().Name())},
		"summary":     string(m.desc.Name()),
		"description": strings.Join(notes, " "),
		"parameters":  append(commonHeaders(), contentEncoding()),
		"requestBody": object{"required": true, "content": object{in: object{"schema": s.message(m.desc.Input())}}},
		"responses":   responses(object{"description": "The answer.", "content": object{out: object{"schema": s.message(m.desc.Output())}}}, "200"),
	}
}

// headOperation is the HEAD of a GET: its answers without their content.
func headOperation(get object) object {
	head := maps.Clone(get)
	head["operationId"] = "head_" + get["operationId"].(string)
	head["summary"] = get["summary"].(string) + ": the head alone"
	answers := object{}
	for status, answer := range get["responses"].(object) {
		a := maps.Clone(answer.(object))
		delete(a, "content")
		answers[status] = a
	}
	head["responses"] = answers
	return head
}

// responses is an operation's success and its errors.
func responses(success object, status string) object {
	return object{
		status: success,
		"default": object{
			"description": "An error. Retry-After is set where a retry helps.",
			"headers": object{
				"Retry-After": object{"schema": object{"type": "integer"}, "description": "Seconds."},
				reasonHeader:  object{"schema": text(), "description": "The error's code, as in the body."},
			},
			"content": object{"application/json": object{"schema": ref("Error")}},
		},
	}
}

func commonHeaders() []object {
	return []object{
		parameter("header", "Request-Timeout-Ms", "Deadline in milliseconds, 1 to 60000; 5000 unless given.", object{"type": "integer", "minimum": 1, "maximum": 60000}),
		parameter("header", "X-Request-Id", "Comes back in the answer and in errors; made by the server when absent.", object{"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}),
	}
}

func contentEncoding() object {
	return parameter("header", "Content-Encoding", "How the body is packed. The limits are those of what is in it.",
		object{"type": "string", "enum": []string{"identity", encodingGzip, encodingZstd}})
}

func parameter(in, name, description string, schema object) object {
	return object{"in": in, "name": name, "description": description, "required": in == "path", "schema": schema}
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// schemas are the components, by name.
type schemas object

// message adds a message and what it holds, and returns a reference to it.
func (s schemas) message(md protoreflect.MessageDescriptor) object {
	if known := wellKnown(md.FullName()); known != nil {
		return known
	}
	name := strings.TrimPrefix(string(md.FullName()), "headwater.v1.")
	if _, ok := s[name]; ok {
		return ref(name)
	}
	properties := object{}
	schema := object{"type": "object", "properties": properties}
	if strings.HasSuffix(name, "Request") {
		schema["additionalProperties"] = false
	}
	s[name] = schema // before its fields, which may lead back to it
	for i := range md.Fields().Len() {
		f := md.Fields().Get(i)
		properties[f.JSONName()] = s.field(f)
	}
	var alternatives []string
	for i := range md.Oneofs().Len() {
		o := md.Oneofs().Get(i)
		if o.IsSynthetic() {
			continue
		}
		var names []string
		for j := range o.Fields().Len() {
			names = append(names, o.Fields().Get(j).JSONName())
		}
		alternatives = append(alternatives, "At most one of "+strings.Join(names, ", ")+".")
	}
	if len(alternatives) > 0 {
		schema["description"] = strings.Join(alternatives, " ")
	}
	return ref(name)
}

func (s schemas) field(f protoreflect.FieldDescriptor) object {
	switch {
	case f.IsMap():
		return object{"type": "object", "additionalProperties": s.single(f.MapValue())}
	case f.IsList():
		return object{"type": "array", "items": s.single(f)}
	}
	return s.single(f)
}

func (s schemas) single(f protoreflect.FieldDescriptor) object {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.StringKind:
		return object{"type": "string"}
	case protoreflect.BytesKind:
		return object{"type": "string", "contentEncoding": "base64"}
	case protoreflect.EnumKind:
		var names []string
		for i := range f.Enum().Values().Len() {
			names = append(names, string(f.Enum().Values().Get(i).Name()))
		}
		return object{"type": "string", "enum": names}
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return s.message(f.Message())
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind, protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return object{"type": []string{"string", "integer"}, "format": "int64"}
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return object{"type": "number"}
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind, protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return object{"type": "integer"}
	}
	return object{}
}

// wellKnown is the JSON form of Google's messages that have one of their own.
func wellKnown(name protoreflect.FullName) object {
	switch name {
	case "google.protobuf.Timestamp":
		return object{"type": "string", "format": "date-time"}
	case "google.protobuf.Duration":
		return object{"type": "string", "pattern": `^-?[0-9]+(\.[0-9]{1,9})?s$`}
	}
	return nil
}

func errorSchema() object {
	return object{
		"type":     "object",
		"required": []string{"code", "message", "reason", "requestId", "metadata", "details"},
		"properties": object{
			"code":       object{"type": "string", "description": "gRPC code in lower case."},
			"message":    object{"type": "string", "description": "What happened; what to do."},
			"reason":     object{"type": "string", "description": "Stable code, HW-####."},
			"outcome":    object{"type": "string", "enum": []apierrors.Outcome{apierrors.NotApplied, apierrors.Unknown}, "description": "On every write. After UNKNOWN, send the request again with the same token."},
			"token":      object{"type": []string{"object", "null"}, "description": "On every write: an IdempotencyToken, null when none was made."},
			"retryAfter": wellKnown("google.protobuf.Duration"),
			"requestId":  object{"type": "string"},
			"metadata":   object{"type": "object", "additionalProperties": object{"type": "string"}},
			"details":    object{"type": "array", "items": object{"type": "object"}},
		},
	}
}
