package format

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"millrace/telemetry"
)

// SenML in JSON, RFC 8428 section 5. A pack cannot be cut, because base fields
// reach over records: broken JSON refuses all of it.

func (d *Decoder) decodeSenML(payload []byte, base Base) *telemetry.Refusal {
	r := open(&d.json.outer, &d.json.outerSrc, payload)
	if kind := r.PeekKind(); kind != '[' {
		if kind == 0 {
			_, err := r.ReadToken()
			return notJSON(err)
		}
		return telemetry.Refuse(telemetry.ReasonMalformed, "a SenML pack is a JSON array, not %s", kindName(kind))
	}
	if _, err := r.ReadToken(); err != nil {
		return notJSON(err)
	}
	p := d.newPack(base)
	for r.PeekKind() != ']' && !p.finished {
		rec, refused := d.senmlRecord(r)
		if refused == nil {
			refused = p.take(&rec)
		}
		if refused != nil {
			return refused
		}
	}
	if p.finished {
		return nil
	}
	if _, err := r.ReadToken(); err != nil {
		return notJSON(err)
	}
	if refused := trailing(r); refused != nil {
		return refused
	}
	p.flush()
	return nil
}

func (d *Decoder) senmlRecord(r *jsontext.Decoder) (rec record, refused *telemetry.Refusal) {
	if kind := r.PeekKind(); kind != '{' && kind != 0 {
		return rec, telemetry.Refuse(telemetry.ReasonMalformed, "a SenML record is an object, not %s", kindName(kind))
	}
	if _, err := r.ReadToken(); err != nil {
		return rec, notJSON(err)
	}
	for r.PeekKind() != '}' {
		if refused = d.senmlLabel(r); refused != nil {
			return rec, refused
		}
		raw, err := r.ReadValue()
		if err != nil {
			return rec, notJSON(err)
		}
		if refused = d.senmlField(&rec, string(d.path), raw); refused != nil {
			return rec, refused
		}
	}
	_, err := r.ReadToken()
	return rec, notJSON(err)
}

func (d *Decoder) senmlLabel(r *jsontext.Decoder) *telemetry.Refusal {
	quoted, err := r.ReadValue()
	if err == nil {
		d.path, err = jsontext.AppendUnquote(d.path[:0], quoted)
	}
	return notJSON(err)
}

func (d *Decoder) senmlField(rec *record, label string, raw jsontext.Value) *telemetry.Refusal {
	if f := rec.number(label); f != nil {
		return senmlNumber(f, label, raw)
	}
	switch label {
	case "vb":
		if kind := raw.Kind(); kind != 't' && kind != 'f' {
			return senmlKind(label, "a boolean", kindName(kind))
		}
		rec.truth, rec.hasTruth = raw.Kind() == 't', true
		return nil
	case "bn", "n", "vs", "vd":
	case "u", "bu":
		return nil
	default:
		return mustUnderstand(label)
	}
	if raw.Kind() != '"' {
		return senmlKind(label, "a string", kindName(raw.Kind()))
	}
	var err error
	if d.scratch, err = jsontext.AppendUnquote(d.scratch[:0], raw); err != nil {
		return notJSON(err)
	}
	rec.setText(label, string(d.scratch))
	return nil
}

// number is where the record keeps the number of that label; nil if the label is no number's.
func (rec *record) number(label string) *field {
	switch label {
	case "bt":
		return &rec.baseTime
	case "bv":
		return &rec.baseVal
	case "bs":
		return &rec.baseSum
	case "bver":
		return &rec.version
	case "t":
		return &rec.time
	case "v":
		return &rec.value
	case "s":
		return &rec.sum
	case "ut":
		return new(field)
	}
	return nil
}

func (rec *record) setText(label, text string) {
	switch label {
	case "bn":
		rec.baseName, rec.hasBaseName = text, true
	case "n":
		rec.name = text
	case "vs":
		rec.text, rec.hasText = text, true
	case "vd":
		rec.text, rec.hasData = text, true
	}
}

func senmlNumber(f *field, label string, raw jsontext.Value) *telemetry.Refusal {
	if raw.Kind() != '0' {
		return senmlKind(label, "a number", kindName(raw.Kind()))
	}
	x, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return telemetry.Refuse(telemetry.ReasonMalformed, "SenML label %s is %.40s, beyond the range of a double", label, raw)
	}
	*f = field{x, true}
	return nil
}

func senmlKind(label, want, got string) *telemetry.Refusal {
	return telemetry.Refuse(telemetry.ReasonMalformed, "SenML label %s is %s: send %s", label, got, want)
}
