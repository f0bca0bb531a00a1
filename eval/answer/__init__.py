"""From questions to answers: the stages that need a model under test."""
