"""The verbs, thin: parse, call one public function, print its result."""
