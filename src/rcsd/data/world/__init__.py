"""The rubric world: science problems whose criteria are checked in code, and a micro model."""
