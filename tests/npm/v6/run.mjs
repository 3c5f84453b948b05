import * as ai from "ai";
import { WorkflowChatTransport } from "@workflow/ai";
import { serve } from "../client.mjs";

serve(ai, WorkflowChatTransport);
