"""Answers that are JSON of a given form: a JSON Schema as a grammar, and the check of the result.

    to_grammar(schema)          GBNF, which llama.cpp keeps the answer to
    check_answer(text, schema)  the last word, with what no grammar can say: multiples, unique items

The subset: types, enum, const, properties (in their order), required, additionalProperties, items,
prefixItems, lengths, minimum and maximum, patterns that are regular, format (dates, times, UUIDs),
anyOf, oneOf, allOf, and $ref within the schema. `checked` names what is not written into the
grammar. Pure Python; it knows no model.
"""

from __future__ import annotations

from .checked import check_answer
from .grammar import to_grammar
from .reading import read_schema

__all__ = ["check_answer", "read_schema", "to_grammar"]
